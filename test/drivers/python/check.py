"""Named, independent checks; the program exits with 1 if one failed."""
import sys
import traceback

failed = 0


def check(name):
    def run(fn):
        global failed
        try:
            fn()
            print("ok  ", name, flush=True)
        except Exception as e:
            failed += 1
            print("FAIL", name + ":", type(e).__name__, str(e)[:2000], flush=True)
            for f in traceback.extract_tb(e.__traceback__):
                if f.filename.startswith(sys.path[0]):
                    print("       at", f.filename.rsplit("/", 1)[-1], "line", f.lineno, flush=True)
        return fn
    return run


def eq(got, want):
    if got != want:
        raise AssertionError("got %s, want %s" % (repr(got)[:900], repr(want)[:900]))


def done():
    if failed:
        print(failed, "checks failed")
        sys.exit(1)
