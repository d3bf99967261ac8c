"""Floats and attributes of lists: planets that pull at each other."""


def work():
    bodies = [
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 39.5],
        [4.84, -1.16, -0.10, 0.61, 2.81, -0.02, 0.038],
        [8.34, 4.12, -0.40, -1.01, 1.82, 0.008, 0.011],
        [12.89, -15.11, -0.22, 1.08, 0.87, -0.01, 0.0017],
        [15.38, -25.92, 0.18, 0.98, 0.59, -0.03, 0.0020],
    ]
    pairs = [(a, b) for i, a in enumerate(bodies) for b in bodies[i + 1 :]]
    for _ in range(11_000):
        for a, b in pairs:
            dx, dy, dz = a[0] - b[0], a[1] - b[1], a[2] - b[2]
            force = 0.001 / (dx * dx + dy * dy + dz * dz) ** 1.5
            pull_a, pull_b = a[6] * force, b[6] * force
            a[3] -= dx * pull_b
            a[4] -= dy * pull_b
            a[5] -= dz * pull_b
            b[3] += dx * pull_a
            b[4] += dy * pull_a
            b[5] += dz * pull_a
        for body in bodies:
            body[0] += 0.001 * body[3]
            body[1] += 0.001 * body[4]
            body[2] += 0.001 * body[5]
    return round(bodies[1][0], 6)
