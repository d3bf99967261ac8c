# exit: 1
raise SystemExit("this goes to standard error")
