print("Hello from a sandbox that holds nothing but this program.")
