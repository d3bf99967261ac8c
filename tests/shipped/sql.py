"""The tool `sql`, with files that this program writes into its workspace.

The tool's time limit is expected to be a few seconds: one statement here never ends.
"""

import math
import os
import time

import tools
from tools.sql import Error, connect, query


def fails(call, *words):
    try:
        result = call()
    except Error as error:
        text = str(error)
        for word in words:
            assert word in text, (word, text[:500])
        return text
    raise AssertionError(f"no error, but {str(result)[:200]}")


with open("sales-2024.csv", "w") as file:
    file.write('city,units,price,Day,day\nRome,3,1.5,2024-01-31,1\n"New York, NY",,2,2024-02-01,2\nMilan,5,NA,,3\n')
with open("people.jsonl", "w") as file:
    file.write('{"name": "Ada", "born": "1815-12-10", "tags": ["x", "y"], "ok": true}\n{"name": "Bob", "height": 1.5}\n')

# Files as tables, in one call.
assert query("SELECT city, units * price AS total FROM sales_2024 ORDER BY units", ["sales-2024.csv"]) == [
    {"city": "New York, NY", "total": None}, {"city": "Rome", "total": 4.5}, {"city": "Milan", "total": None}]
assert query("SELECT name, json_extract(tags, '$[1]') AS tag, ok FROM people", ["people.jsonl"]) == [
    {"name": "Ada", "tag": "y", "ok": 1}, {"name": "Bob", "tag": None, "ok": None}]
assert query("SELECT count(*) AS n FROM sales_2024, people WHERE city = :city",
                  ["sales-2024.csv", "people.jsonl"], {"city": "Rome"}) == [{"n": 2}]
fails(lambda: query("SELECT 1", ["absent.csv"]), "absent.csv", "no such file")
fails(lambda: query("SELECT * FROM sales", ["sales-2024.csv"]), "no such table", "`sales_2024`")

# A database in a file.
db = connect("shop.db")
assert db.load_csv("sales-2024.csv", "sales") == 3
assert db.schema() == 'CREATE TABLE "sales" ("city" TEXT, "units" INTEGER, "price" REAL, "Day" TEXT, "day_2" INTEGER);'
assert db.load_json("people.jsonl", "people") == 2
print(db.show("SELECT city, units, price FROM sales"))
assert db.execute("UPDATE sales SET units = ? WHERE units IS NULL", [7]) == 1
assert db.execute_many("INSERT INTO sales (city, units) VALUES (?, ?)", [["a", 1], ["b", None]]) == 2
assert db.execute_many("INSERT INTO sales (city, units) VALUES (:c, :u)", [{"c": "x", "u": 1.5}]) == 1
assert db.query("INSERT INTO people (name) VALUES ('Eve') RETURNING name") == [{"name": "Eve"}]
db.execute("BEGIN")
assert db.execute("DELETE FROM sales") == 6
db.execute("ROLLBACK")
assert db.query("SELECT count(*) AS n FROM sales") == [{"n": 6}]
db.execute_script("CREATE TABLE t (a, b); INSERT INTO t VALUES (1, 'x;y'); -- a remark; and another\n INSERT INTO t VALUES (2, NULL);")
db.close()
with connect("shop.db", True) as reading:
    assert (reading.query("SELECT count(*) AS n FROM t")) == [{"n": 2}]
    fails(lambda: reading.execute("DELETE FROM t"), "readonly")
assert query("SELECT count(*) AS n FROM shop.t JOIN shop.sales", ["shop.db"]) == [{"n": 12}]

# Values go in and come out as they are.
db = connect()
values = [None, 0, -1, 2**63 - 1, -(2**63), 0.1, -1.5e300, 5e-324, "", "é\n\"\\\0\u2028\U0001f600", True, ["a", {"b": 1}]]
back = [(db.query("SELECT ? AS v", [value]))[0]["v"] for value in values]
assert back[:10] == values[:10] and back[10:] == [1, '["a",{"b":1}]'], back
assert db.query("SELECT x'00ff' AS b, unhex(?) = x'4142' AS u, 9e999 AS i, 1 AS b", ["4142"]) == [
    {"b": "00ff", "u": 1, "i": math.inf, "b_2": 1}]
assert db.query("SELECT :a AS a, @b AS b, $c AS c", {"a": 1, "b": 2, "c": 3}) == [{"a": 1, "b": 2, "c": 3}]
assert db.query("SELECT 1 WHERE 0") == []
assert db.query("CREATE TABLE n (x)") == []
for program in ("fts5", "rtree"):
    db.execute(f"CREATE VIRTUAL TABLE v_{program} USING {program}(a, b, c)")
assert db.query("SELECT sum(x) OVER (ORDER BY x) AS s FROM (SELECT 1 AS x UNION SELECT 2)") == [{"s": 1}, {"s": 3}]

# Mistakes say what to do.
fails(lambda: db.query("SELEC 1"), "syntax error", "line 1, character 1")
fails(lambda: db.query("SELECT 1;\nSELECT 2"), "execute_script")
fails(lambda: db.query(""), "no statement")
fails(lambda: db.query("-- nothing"), "no statement")
fails(lambda: db.query("SELECT\n  y FROM n"), "no such column: y", "line 2, character 3", "n(x)")
fails(lambda: db.query("SELECT ?"), "1 place", "0 are given")
fails(lambda: db.query("SELECT ?", [1, 2]), "2 are given")
fails(lambda: db.query("SELECT :a", {"b": 1}), "no value for `:a`")
fails(lambda: db.query("SELECT :a", {"a": 1, "b": 1}), "no place `:b`")
fails(lambda: db.query("SELECT ?", {"a": 1}), "list")
fails(lambda: db.query("SELECT ?", 5), "list or a dict")
fails(lambda: db.query("SELECT ?", "Rome"), "list or a dict")
fails(lambda: db.query("SELECT ?", [2**64 - 1]), "too large")
fails(lambda: db.execute_many("INSERT INTO n VALUES (?)", [[1], [2, 3]]), "values 1")
fails(lambda: db.execute_many("INSERT INTO n VALUES (?)", 5), "list of lists")
assert db.query("SELECT count(*) AS c FROM n") == [{"c": 0}]
db.load_csv("sales-2024.csv", "sales")
fails(lambda: db.load_csv("sales-2024.csv", "sales"), "already", "DROP TABLE")
fails(lambda: db.load_csv("people.jsonl", "p"), "load_json")
with open("broken.csv", "w") as file:
    file.write("a,b\n1,2\n3\n")
fails(lambda: db.load_csv("broken.csv", "broken"), "broken.csv", "line 3")
fails(lambda: connect("sales-2024.csv"), "not a database", "load_csv")
fails(lambda: connect("absent.db", True), "no such file")
fails(lambda: connect("no/where.db"), "no such file")
db.load_csv("sales-2024.csv", 'a"b; DROP TABLE sales')
assert db.query('SELECT count(*) AS c FROM "a""b; DROP TABLE sales"') == [{"c": 3}]

# Nothing outside of what was granted, by whatever statement.
for path in ("../x.db", "/etc/passwd", "/tmp/x.db", "/workspace/../x.db"):
    fails(lambda: connect(path), "outside of what the tool sees")
    fails(lambda: db.execute("ATTACH ? AS other", [path]), "unable to open")
    fails(lambda: db.execute("VACUUM INTO ?", [path]))
    fails(lambda: db.load_csv(path, "x"), "outside")
fails(lambda: db.query("SELECT load_extension('x')"), "no such function")
for text in ("SELECT readfile('/etc/passwd')", "SELECT writefile('x', 'y')", "SELECT edit('x')"):
    fails(lambda: db.query(text), "no such function")
db.execute("VACUUM INTO 'copy.db'")
db.execute("ATTACH 'copy.db' AS copy")
assert db.query("SELECT count(*) AS c FROM copy.sales") == [{"c": 3}]
assert os.path.exists("copy.db")

# Too much of anything is an error, and the database goes on.
fails(lambda: db.query("SELECT " + "+".join(["1"] * 1000)), "maximum depth")
assert db.query("SELECT " + "(" * 100_000 + "1" + ")" * 100_000 + " AS one") == [{"one": 1}]
fails(lambda: db.query("SELECT " + "not " * 100_000 + "1"), "")
fails(lambda: db.query(" UNION ALL ".join(["SELECT 1"] * 300)), "too many terms")
fails(lambda: db.query("SELECT '" + "x" * 2_000_000 + "'"), "")
fails(lambda: db.query("SELECT randomblob(1000000000)"), "too big")
fails(lambda: db.query("SELECT replace(hex(zeroblob(20000000)), '0', 'xxxxxxxx')"), "")
fails(lambda: db.execute("ATTACH ':memory:' AS a" + "b" * 10 + "; SELECT 1"), "execute_script")
endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) "
fails(lambda: db.query(endless + "SELECT x, 'some text' AS t FROM c"), "64 MiB", "LIMIT")
fails(lambda: db.query("PRAGMA writable_schema = ON; DELETE FROM sqlite_schema"), "")
db.execute("PRAGMA writable_schema = ON")
fails(lambda: db.execute("DELETE FROM sqlite_schema"), "may not be modified")
assert db.show(endless + "SELECT x FROM c", None, 3).endswith("there are more)\n")
assert db.query("PRAGMA journal_mode = WAL")[0]["journal_mode"] != "wal"
deep = "CREATE TRIGGER r AFTER INSERT ON n BEGIN INSERT INTO n VALUES (new.x + 1); END"
db.execute_script("PRAGMA recursive_triggers = ON")
db.execute(deep)
fails(lambda: db.execute("INSERT INTO n VALUES (1)"), "too many levels of trigger recursion")

# A statement that never ends is stopped, in the middle of what it wrote; the next call finds all as it was.
file = connect("shop.db")
before = file.query("SELECT count(*) AS n, sum(units) AS u FROM sales")
file.execute_script("PRAGMA cache_size = 10")
start = time.monotonic()
try:
    file.execute("INSERT INTO sales (city, units) " + endless + "SELECT 'spilled', x FROM c")
except tools.ToolTimeout as error:
    print(error)
except tools.ToolError as error:
    # Or the tool's limit of written bytes came first.
    assert "full" in str(error) or "disk I/O" in str(error), error
else:
    raise AssertionError("it ended")
print(f"stopped after {time.monotonic() - start:.1f} s")
try:
    file.query("SELECT 1")
    gone = False
except tools.ToolClosed:
    gone = True
again = connect("shop.db")
assert again.query("SELECT count(*) AS n, sum(units) AS u FROM sales") == before
assert again.query("PRAGMA integrity_check") == [{"integrity_check": "ok"}]
assert not os.path.exists("shop.db-journal")
try:
    again.query(endless + "SELECT count(*) FROM c")
except tools.ToolTimeout:
    pass
else:
    raise AssertionError("it ended")
assert connect().query("SELECT 1 AS one") == [{"one": 1}]
