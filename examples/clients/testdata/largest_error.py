"""Fails with as much to say as an error may have: names, message, traceback and data all at their bounds."""

import pitboss


@pitboss.tool
def fails(message: int, data: int) -> None:
    def deeper(n: int) -> None:
        if n:
            deeper_by_a_function_of_a_long_name = deeper
            deeper_by_a_function_of_a_long_name(n - 1)
        else:
            raise pitboss.ToolError("é%" * message, reason="R" * 63, data="x" * (data - 2), retryable=True)

    deeper(200)
