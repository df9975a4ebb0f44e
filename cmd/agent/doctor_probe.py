"""What `pitboss doctor` runs on an interpreter: LIBRARY [ADAPTER]. Prints one JSON object on its last line."""
import json
import sys

said = {"version": "%d.%d.%d" % tuple(sys.version_info[:3]), "implementation": sys.implementation.name, "executable": sys.executable}
if sys.version_info >= (3, 9):
    import importlib.util
    import os

    here = [p for p in sys.path if os.path.abspath(p or ".") != os.getcwd()]  # -c puts the working directory first; no launcher does
    sys.path[:] = here
    try:
        spec = importlib.util.find_spec("pitboss")
        said["other"] = spec.origin if spec else ""
        if spec:
            with open(spec.origin, encoding="utf-8") as text:  # not imported: the copy of the agent is
                said["other_version"] = next((line.split('"')[1] for line in text if line.startswith("__version__ = ")), "")
    except (ImportError, ValueError, AttributeError, OSError, IndexError, TypeError):
        said.setdefault("other", "")
    sys.path.insert(0, sys.argv[1])
    import pitboss

    said["package"], said["package_version"] = pitboss.__file__, getattr(pitboss, "__version__", "")
    if len(sys.argv) > 2:
        from pitboss._adapter import find, load_module, split

        place, name = split(sys.argv[2])
        sys.path.insert(1, os.getcwd())
        try:
            said["tools"] = sorted(find(load_module(place, sys.argv[1]), name)[1])
        except BaseException as error:
            import traceback

            frames = traceback.extract_tb(error.__traceback__)
            mine = [f for f in frames if f.filename != "<string>" and not f.filename.startswith((sys.argv[1], "<frozen"))]
            said["error"] = type(error).__name__ + ": " + str(error)
            if isinstance(error, SyntaxError) or not mine:
                text = traceback.format_exception_only(type(error), error)
            else:
                text = ["Traceback (most recent call last):\n"] + traceback.format_list(mine) + traceback.format_exception_only(type(error), error)
            said["traceback"] = "".join(text)
sys.stderr.flush()
sys.stdout.flush()
sys.stdout.write("\n" + json.dumps(said) + "\n")
sys.stdout.flush()
import os  # noqa: E402

os._exit(0)  # a thread that the adapter has started keeps nobody waiting
