# exit: 1
def fail(kind):
    raise kind("inside")


errors = []
for kind in (ValueError, TypeError):
    try:
        fail(kind)
    except Exception as error:
        errors.append(error)
raise ExceptionGroup("both", errors)
