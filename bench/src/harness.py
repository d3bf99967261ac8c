def measure(rounds):
    import gc
    import json
    import time

    times = []
    for _ in range(rounds):
        gc.collect()
        start = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - start)
    print(json.dumps({"best_seconds": min(times), "result": str(result)}))
