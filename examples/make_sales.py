"""Makes `sales.csv`: a year of orders of a shop in six cities, the same every time.

    agentkernel run --workspace examples/data examples/make_sales.py
"""

import csv
import datetime
import math
import random

CITIES = {"Berlin": 1.2, "Lisbon": 0.7, "London": 1.5, "Madrid": 1.0, "Rome": 0.9, "Vienna": 0.8}
PRODUCTS = {"notebook": 4.5, "pen": 1.8, "desk lamp": 39.0, "office chair": 189.0, "backpack": 64.5}

chance = random.Random(2024)
start = datetime.date(2024, 1, 1)
rows = []
for _ in range(500):
    day = start + datetime.timedelta(days=int(chance.random() * 366))
    city = chance.choices(list(CITIES), CITIES.values())[0]
    product = chance.choice(list(PRODUCTS))
    # More is sold towards Christmas, and more of what is cheap.
    season = 1 + 0.4 * math.sin((day.timetuple().tm_yday - 250) / 366 * math.tau)
    units = 1 + int(chance.expovariate(1) * season * 20 / math.sqrt(PRODUCTS[product]))
    price = round(PRODUCTS[product] * chance.choice([1, 1, 1, 0.9, 0.8]), 2)
    # Now and then nobody noted the price.
    rows.append([day, city, product, units, price if chance.random() > 0.02 else None])
rows.sort(key=lambda row: row[0])
with open("sales.csv", "w", newline="") as file:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["date", "city", "product", "units", "price"])
    writer.writerows(rows)
