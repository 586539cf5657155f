raise RuntimeError("not even imported")
