"""The Python side of the AgentKernel contract (wit/kernel.wit). Programs do not import it."""
