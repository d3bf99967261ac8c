"""A report on a year of sales, by tools that are WebAssembly components.

    agentkernel run --tools tools/prebuilt --workspace examples/data examples/tools.py
"""

from tools.data_analysis import load_dataset
from tools.plot import Chart
from tools.sql import query

# A table in the memory of one component, filtered and grouped there.
sales = load_dataset("sales.csv").filter("price is not null").with_column("revenue", "units * price")
print(f"{sales.row_count()} orders, {sum(sales.column('revenue').value):,.2f} in all\n")
cities = sales.group_by(["city"], ["count() as orders", "sum(revenue) as revenue", "median(units) as units"])
print(cities.sort(["revenue"], True).head())

# The same file as a table of SQLite.
products = query("""
    SELECT product, sum(units) AS units, min(price) AS cheapest, max(price) AS dearest
    FROM sales GROUP BY product ORDER BY units DESC
""", ["sales.csv"])
for row in products:
    print(f"{row['units']:5} × {row['product']:<12} at {row['cheapest']:.2f} to {row['dearest']:.2f}")

# A chart, which another component writes into the workspace.
months = sales.with_column("month", "month(date)").group_by(["month"], ["sum(revenue) as revenue"])
chart = Chart("Revenue in 2024", "month", "revenue")
chart.line(months.column("month").value, months.column("revenue").value, markers=True)
chart.save("revenue.png")
print("\nrevenue.png shows the months")
