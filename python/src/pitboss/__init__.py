"""Write tools for pitboss: functions that warm worker processes run on behalf of any program.

>>> import pitboss
>>> @pitboss.tool
... def add(a: int, b: int) -> int:
...     return a + b
>>> add(1, 2)
3
"""

from pitboss._adapter import Adapter
from pitboss._context import Context, context
from pitboss._errors import Cancelled, ToolDefinitionError, ToolError
from pitboss._tools import tool

#: Version of the package; the agent refuses a Python half of another one than its own.
__version__ = "0.1.0"

__all__ = ["Adapter", "Cancelled", "Context", "ToolDefinitionError", "ToolError", "context", "tool"]
