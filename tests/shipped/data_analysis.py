"""The tool `data_analysis`, with files that this program writes into its workspace."""

import json
import math
import os
import random
import statistics
import time
from array import array

import tools
from tools.data_analysis import Error, Values, from_columns, from_csv, from_json, from_rows, load_dataset


def fails(call, *words):
    try:
        result = call()
    except Error as error:
        text = str(error)
        for word in words:
            assert word in text, (word, text[:500])
        return text
    raise AssertionError(f"no error, but {str(result)[:200]}")


def rows(table):
    return table.rows()


def types(table):
    return [column.type for column in table.columns()]


def write(name, text, **options):
    with open(name, "w", newline="", **options) as file:
        file.write(text)
    return name


# Reading: types, quotes, line ends, a mark at the beginning, missing values.
sales = load_dataset(write("sales.csv", "\ufeff" + '''\
city,units,price,day,open,code
Rome,3,1.5,2024-01-31,true,007
"New York, NY",,2,2024-02-01,false,010
"say ""hi""",5,NA,2024-02-29,,1
Rome,4,-1e3,,TRUE,02
'''.replace("\n", "\r\n"), encoding="utf-8"))
assert sales.row_count() == 4
assert [(c.name, c.type, c.missing) for c in sales.columns()] == [
    ("city", "string", 0), ("units", "int64", 1), ("price", "float64", 1),
    ("day", "date", 1), ("open", "bool", 1), ("code", "string", 0)], sales.columns()
assert sales.column("units").value.tolist()[0] == 3 and math.isnan(sales.column("units").value[1])
assert sales.column("price").value[3] == -1000
assert sales.column("city").value == ["Rome", "New York, NY", 'say "hi"', "Rome"]
assert sales.column("open").value == [True, False, None, True]
assert sales.column("day").value == ["2024-01-31", "2024-02-01", "2024-02-29", None]
assert rows(sales)[1] == {
    "city": "New York, NY", "units": None, "price": 2, "day": "2024-02-01", "open": False, "code": "010"}
print(sales.head(2))

assert types(from_csv("a\n1\n2\n")) == ["int64"]
assert types(from_csv("a;b\n1,5;x\n2,5;y\n")) == ["string", "string"]
assert [c.name for c in from_csv("a\tb\n1\t2\n").columns()] == ["a", "b"]
assert [c.name for c in from_csv("1,2\n3,4\n").columns()] == ["column_1", "column_2"]
assert [c.name for c in from_csv("x,x,\n3,4,5\n").columns()] == ["x", "x_2", "column_3"]
assert from_csv("1,2\n3,4\n", header=True).row_count() == 1
assert from_csv("a:b\n1:2\n", delimiter=":").column("b").value.tolist() == [2]
assert types(from_csv("t\n2024-01-31T12:30:00\n2024-01-31 12:30:01.5\n2024-02-01\n")) == ["datetime"]
assert from_csv("t\n2024-01-31T12:30:00\n2024-02-01\n").column("t").value == ["2024-01-31T12:30:00", "2024-02-01T00:00:00"]
assert types(from_csv("t\n2024-02-30\n")) == ["string"]
assert from_csv("a\n\n1\n\n").row_count() == 1
assert from_csv("a,b").row_count() == 0 and from_csv("a,b\n").head()
assert from_csv('a,b\n"x\ny",1').column("a").value == ["x\ny"]
assert from_csv('a,b\n6" pipe,1\n"q" tail,2\n').column("a").value == ['6" pipe', '"q" tail']

# What looked like a number is text if text comes later, and keeps its digits.
late = from_csv("a,b\n" + "1,1\n" * 300_000 + "NA,1.50\nx1,2\n")
assert types(late) == ["string", "float64"]
assert late.column("a").value[-2:] == ["NA", "x1"] and late.column("a").value[0] == "1"
assert from_csv("a\nNA\n").column("a").value == [None]
assert from_csv("a\nNA\nb\n").column("a").value == ["NA", "b"]
numbers = from_csv("n\n9223372036854775807\n-9223372036854775807\n").column("n").value
assert numbers.tolist() == [2**63 - 1, -(2**63) + 1]
assert types(from_csv("n\n9223372036854775808\n")) == ["float64"]
assert types(from_csv("n\n-9223372036854775808\n")) == ["float64"]
texts = [repr(x) for x in (0.1, 1e-320, 1.7976931348623157e308, 123456789.123456789, 5e-324, 2.5e22, 1e23)]
texts += ["0.30000000000000004", "17.000", ".5", "5.", "-0.0", "1E5", "+7.5", "123456789012345678901234567890"]
assert from_csv("n\n" + "\n".join(texts)).column("n").value.tolist() == [float(text) for text in texts]
for text in ("1_000", "0x10", "1,5", "--1", "1e", "e5", "1.2.3", "$5", "12-"):
    assert types(from_csv(f'n\n"{text}"\n')) == ["string"], text

# Broken files say where.
fails(lambda: from_csv("a,b\n1,2\n3\n"), "line 3", "1 fields", "2 columns", "`3`")
fails(lambda: from_csv('a,b\n"x\ny",2\n1,2,3\n'), "line 4", "3 fields")
fails(lambda: from_csv('a,b\n"never closed,1\n2,3\n'), "line 2", "not closed")
fails(lambda: from_csv(""), "nothing")
fails(lambda: from_csv("a\n1\n", delimiter="é"), "ASCII")
with open("latin.csv", "wb") as file:
    file.write("name\ncafé\n".encode("latin-1"))
fails(lambda: load_dataset("latin.csv"), "latin.csv", "line 2", "UTF-8", "encoding=")
with open("wide.csv", "wb") as file:
    file.write("a\n1\n".encode("utf-16"))
fails(lambda: load_dataset("wide.csv"), "UTF-8")
with open("zeros.csv", "wb") as file:
    file.write(b"a,b\n\0\0,1\n")
assert load_dataset("zeros.csv").column("a").value == ["\0\0"]
fails(lambda: load_dataset("absent.csv"), "absent.csv", "no such file")
fails(lambda: load_dataset("../outside.csv"), "outside of what the tool sees")
fails(lambda: load_dataset("/etc/passwd"), "outside of what the tool sees")
fails(lambda: load_dataset("x.parquet"), "parquet", "CSV")
os.makedirs("folder.csv", exist_ok=True)
fails(lambda: load_dataset("folder.csv"), "directory")
fails(lambda: from_csv(",".join("c" * 20_000)), "columns")

# JSON in its forms.
people = from_rows(([
    {"name": "Ada", "age": 36, "tags": ["x", 1]}, {"name": "Bob", "height": 1.5, "born": "1990-05-01"}, {"age": None}]))
assert [(c.name, c.type) for c in people.columns()] == [
    ("name", "string"), ("age", "int64"), ("tags", "string"), ("height", "float64"), ("born", "date")]
assert rows(people)[0] == {"name": "Ada", "age": 36, "tags": '["x",1]', "height": None, "born": None}
assert from_json('{"a": [1, 2], "b": ["x", null]}').row_count() == 2
assert from_json('{"a": 1}').row_count() == 1
assert load_dataset(write("l.jsonl", '{"a": 1}\n\n{"a": 2.5, "b": true}\n')).column("a").value.tolist() == [1, 2.5]
assert from_json('[{"a": 1}, {"a": "x"}]').column("a").value == ["1", "x"]
assert from_json("[]").row_count() == 0
fails(lambda: from_json('[{"a": 1}, {"a": 2]'), "line 1 column")
fails(lambda: from_json('{"a": 1}\n{"a": }\n'), "line 2")
fails(lambda: from_json('{"a": [1, 2], "b": [1]}'), "different lengths", "`b` has 1")
fails(lambda: from_json("[1]"), "object")
fails(lambda: from_json("nonsense"), "array of objects")
fails(lambda: from_json("[" * 100_000), "expected an object")
fails(lambda: from_json('[{"a": ' + "[" * 100_000), "recursion limit")

# Columns of values, and back.
table = from_columns([
    ("n", Values.Ints([1, 2, 3])), ("x", Values.Floats(array("d", [1.5, math.nan, 3]))),
    ("s", Values.Strings(["a", None, ""])), ("b", Values.Bools([True, None, False]))])
assert [c.missing for c in table.columns()] == [0, 1, 1, 1]
assert table.column("s").value == ["a", None, ""] and table.column("b").value == [True, None, False]
fails(lambda: from_columns([("a", Values.Ints([1])), ("b", Values.Ints([1, 2]))]), "different lengths")
fails(lambda: from_columns([("a", Values.Ints([1])), ("a", Values.Ints([1]))]), "two columns")

# Writing reads back as the same.
hard = from_columns([
    ("te,xt", Values.Strings(['a"b', "c,d", "e\nf", " g ", None, "|", "é", ""])),
    ("n", Values.Floats([0.1, math.inf, -math.inf, math.nan, 1e300, 5e-324, -0.0, 2.0]))])
for name in ("out.csv", "out.tsv", "out.jsonl", "out.json"):
    hard.save(name)
    back = load_dataset(name)
    assert back.column("te,xt").value == hard.column("te,xt").value, name
    pairs = zip(back.column("n").value, hard.column("n").value)
    assert all(one == other or math.isnan(one) and (math.isnan(other) or "json" in name) for one, other in pairs), name
one = from_columns([("only", Values.Strings(["a", None]))])
assert from_csv(one.to_csv()).row_count() == 2
assert json.loads(hard.to_json())[4]["n"] == 1e300
fails(lambda: hard.save("out.parquet"), ".csv")
fails(lambda: hard.save("no/where.csv"), "no such file")
fails(lambda: hard.save("/tmp/x.csv"), "outside")
hard.save("out.md")
assert "\\|" in open("out.md").read()

# Expressions: against what Python says.
random.seed(3)
count = 2000
a = [random.randrange(-50, 50) for _ in range(count)]
b = [random.choice([0.5, -2.5, 1e9, 3.0]) for _ in range(count)]
s = [random.choice(["red", "green", "blue", "Red"]) for _ in range(count)]
data = from_columns([("a", Values.Ints(a)), ("b", Values.Floats(b)), ("s", Values.Strings(s)), ("odd name", Values.Ints(a))])
for text, python in [
    ("a + 3 * 2 - b", lambda a, b, s: a + 3 * 2 - b),
    ("(a + 3) * 2 // 7", lambda a, b, s: (a + 3) * 2 // 7),
    ("a % 7", lambda a, b, s: a % 7),
    ("a % -7", lambda a, b, s: a % -7),
    ("b // 2", lambda a, b, s: b // 2),
    ("b % -2", lambda a, b, s: b % -2),
    ("-a ** 2", lambda a, b, s: -float(a) ** 2),
    ("2 ** 3 ** 2", lambda a, b, s: 2.0 ** 3 ** 2),
    ("abs(a) + round(b / 3, 2)", lambda a, b, s: abs(a) + round(b / 3, 2)),
    ("`odd name` * 1.0", lambda a, b, s: a * 1.0),
    ("a > 3 and b < 1 or s == 'red'", lambda a, b, s: a > 3 and b < 1 or s == "red"),
    ("not (a > 3) and s != \"blue\"", lambda a, b, s: not (a > 3) and s != "blue"),
    ("-10 < a <= 10", lambda a, b, s: -10 < a <= 10),
    ("s in ('red', 'blue')", lambda a, b, s: s in ("red", "blue")),
    ("a not in [1, 2, 3]", lambda a, b, s: a not in (1, 2, 3)),
    ("(a > 0) & (b > 0) | ~(s == 'red')", lambda a, b, s: a > 0 and b > 0 or s != "red"),
    ("upper(s) + '-' + str(a)", lambda a, b, s: s.upper() + "-" + str(a)),
    ("contains(lower(s), 're') and startswith(s, 'R')", lambda a, b, s: "re" in s.lower() and s.startswith("R")),
    ("substr(s, 1, 2)", lambda a, b, s: s[1:3]),
    ("substr(s, -2)", lambda a, b, s: s[-2:]),
    ("replace(s, 'e', '--')", lambda a, b, s: s.replace("e", "--")),
    ("length(s)", lambda a, b, s: len(s)),
    ("if(a > 0, 'plus', 'minus')", lambda a, b, s: "plus" if a > 0 else "minus"),
    ("if(a > 0, a, b)", lambda a, b, s: a if a > 0 else b),
    ("int(b)", lambda a, b, s: int(b)),
    ("a = 1 || a <> 2 && true", lambda a, b, s: a == 1 or a != 2),
    ("'it''s' + 'a\\'b'", lambda a, b, s: "it'sa'b"),
    ("1_000 + .5e1", lambda a, b, s: 1005.0),
    ("s > 'm'", lambda a, b, s: s > "m"),
]:
    found = data.with_column("r", text).column("r").value
    expected = [python(*row) for row in zip(a, b, s)]
    assert list(found) == expected, (text, list(found)[:5], expected[:5])
assert data.filter("a > 3").row_count() == sum(x > 3 for x in a)

dates = from_csv("d,t\n2024-02-28,2024-02-28T23:30:15\n,\n1969-12-31,1970-01-01T00:00:00\n")
assert dates.filter("d >= '2024-01-01' and t < '2024-03-01'").row_count() == 1
assert dates.with_column("e", "d + 2").column("e").value == ["2024-03-01", None, "1970-01-02"]
assert list(dates.with_column("e", "weekday(d)").filter("d is not null").column("e").value) == [2, 2]
assert dates.with_column("e", "year(d) * 10000 + month(d) * 100 + day(t)").filter("e > 0").column("e").value[0] == 20240228
assert dates.with_column("e", "t - d").column("e").value[0] == 84615
assert dates.with_column("e", "d - date('2024-01-01')").filter("e > 0").column("e").value[0] == 58
assert dates.filter("d is null").row_count() == 1 and dates.filter("d != '2000-01-01'").row_count() == 2
assert from_csv("a,b\n1,\n,2\n").with_column("c", "coalesce(a, b)").column("c").value.tolist() == [1, 2]
assert from_csv("a\n007\n08\nx\n").with_column("n", "int(a)").column("n").value.tolist()[:2] == [7, 8]
assert from_csv("a\n1\n0\n").with_column("n", "1 // a").columns()[1].missing == 1

fails(lambda: data.filter("aa > 3"), "character 1", "`aa`", "`a`, `b`, `s`, `odd name`")
fails(lambda: data.filter("a > 3 and S == 'x'"), "character 11", "write `s`")
fails(lambda: data.filter("a >> 3"), "character 4", "found `>`", "^")
fails(lambda: data.filter("a > 'x'"), "character 3", "cannot be compared")
fails(lambda: data.filter("a + 's' > 1"), "cannot be computed")
fails(lambda: data.filter("a"), "not a condition")
fails(lambda: data.filter("a > 1 and b"), "character 11", "condition")
fails(lambda: data.filter("(a > 1"), "expected `)`")
fails(lambda: data.filter("s == 'x"), "not closed")
fails(lambda: data.filter(""), "found the end")
fails(lambda: data.filter("a == null"), "is null")
fails(lambda: data.filter("sin(a) > 0"), "no function `sin`", "`sqrt`")
fails(lambda: data.filter("round() > 0"), "1 or 2 arguments")
fails(lambda: data.filter("contains(s, a)"), "text in quotes")
fails(lambda: data.filter("a ; b"), "`;` has no meaning")
fails(lambda: data.with_column("x", "a * 9223372036854775807"), "too large for int64")
fails(lambda: dates.with_column("x", "d + 99999999999"), "9,999 years")
fails(lambda: dates.filter("d > 'soon'"), "2024-01-31")
fails(lambda: data.filter("(" * 4000 + "1" + ")" * 4000), "nested deeper")
fails(lambda: data.filter("-" * 5000 + "1 > 0"), "nested deeper")
fails(lambda: data.filter("not " * 5000 + "true"), "nested deeper")
fails(lambda: data.filter("+".join("1" * 4000) + " > 0"), "in a row")
fails(lambda: data.filter(" or ".join(["a == 1"] * 50_000)), "parts")
assert data.filter(" or ".join(f"a == {n}" for n in range(-50, 50))).row_count() == count

# Summaries, groups, order: against the standard library.
described = {summary.column: summary for summary in data.describe()}
for name, values in (("a", a), ("b", b)):
    found = described[name]
    assert found.count == count and found.missing == 0 and found.min == min(values) and found.max == max(values)
    assert math.isclose(found.mean, statistics.fmean(values)) and math.isclose(found.std, statistics.stdev(values))
    quartiles = statistics.quantiles(values, n=4, method="inclusive")
    assert [found.q25, found.median, found.q75] == quartiles, (found, quartiles)
for length in range(1, 12):
    values = random.sample(range(100), length)
    found, = from_columns([("v", Values.Ints(values))]).describe()
    quartiles = statistics.quantiles(values, n=4, method="inclusive") if length > 1 else [values[0]] * 3
    assert [found.q25, found.median, found.q75] == quartiles, (values, found)
top = statistics.mode(s)
assert (described["s"].distinct, described["s"].top, described["s"].top_count) == (4, top, s.count(top))
assert (described["s"].lowest, described["s"].highest) == ("Red", "red")
empty = from_csv("a,b\n").describe()
assert empty[0].count == 0 and empty[0].mean is None and empty[0].top is None

grouped = rows(data.group_by(["s"], [
    "count()", "sum(a)", "sum(a * b) as ab", "mean(b)", "median(a)", "std(a)", "min(a)", "max(s)", "nunique(a)", "first(a)", "last(a)"]))
assert [row["s"] for row in grouped] == sorted(set(s))
for row in grouped:
    of = [(x, y) for x, y, z in zip(a, b, s) if z == row["s"]]
    xs = [x for x, _ in of]
    assert row["count()"] == len(of) and row["sum(a)"] == sum(xs) and row["nunique(a)"] == len(set(xs))
    assert math.isclose(row["ab"], sum(x * y for x, y in of)) and math.isclose(row["mean(b)"], statistics.fmean(y for _, y in of))
    assert row["median(a)"] == statistics.median(xs) and math.isclose(row["std(a)"], statistics.stdev(xs))
    assert row["min(a)"] == min(xs) and row["max(s)"] == row["s"] and (row["first(a)"], row["last(a)"]) == (xs[0], xs[-1])
assert rows(data.group_by([], ["count()", "max(a)"])) == [{"count()": count, "max(a)": max(a)}]
assert rows(from_csv("k,v\nx,1\n,2\nx,\n").group_by(["k"], ["count(v) as n", "sum(v)"])) == [
    {"k": "x", "n": 1, "sum(v)": 1}, {"k": None, "n": 1, "sum(v)": 2}]
assert data.group_by(["s", "a"], ["count()"]).row_count() == len(set(zip(s, a)))
fails(lambda: data.group_by(["z"], []), "no column `z`")
fails(lambda: data.group_by(["s"], ["total(a)"]), "`sum`")
fails(lambda: data.group_by(["s"], ["sum"]), "function(expression)")
fails(lambda: data.group_by(["s"], ["sum(s)"]), "float(…)")
fails(lambda: data.group_by(["s"], ["sum(a)", "sum(a)"]), "two columns")

ordered = data.sort(["s", "a desc"])
assert list(zip(ordered.column("s").value, ordered.column("a").value)) == sorted(zip(s, a), key=lambda row: (row[0], -row[1]))
assert list(data.sort(["abs(a)"], True).column("a").value) == sorted(a, key=lambda x: -abs(x))
assert from_csv("x\n2\n\n1\nNA\n").sort(["x"], True).column("x").value.tolist()[:2] == [2, 1]
assert data.unique(["s"]).row_count() == 4 and data.unique().row_count() == len(set(zip(a, b, s)))
assert list(data.limit(3, 5).column("a").value) == a[5:8] and data.limit(10, 10**15).row_count() == 0
assert data.limit(2**64 - 1, 2**64 - 1).row_count() == 0
assert [c.name for c in data.select(["s", "a as x", "a * b as ab"]).columns()] == ["s", "x", "ab"]
fails(lambda: data.select(["a", "b as a"]), "two columns")
assert data.append(data).row_count() == 2 * count
assert types(from_csv("a\n1\n").append(from_csv("a\n1.5\n"))) == ["float64"]
fails(lambda: from_csv("a\n1\n").append(from_csv("b\n1\n")), "no column `a`")

# Joins.
left = from_csv("k,x\na,1\nb,2\n,3\nb,4\n")
right = from_csv("k,x,y\nb,10,p\nb,20,q\nc,30,r\n,40,s\n")
def pairs(how):
    return [(row["k"], row["x"], row["x_right"]) for row in rows(left.join(right, ["k"], how))]


both = [("b", 2, 10), ("b", 2, 20), ("b", 4, 10), ("b", 4, 20)]
assert pairs(None) == pairs("inner") == both
assert pairs("left") == [("a", 1, None)] + both[:2] + [(None, 3, None)] + both[2:]
assert pairs("right") == both + [("c", None, 30), (None, None, 40)]
assert len(pairs("outer")) == 8
renamed = right.select(["k as town", "y"])
assert [row["y"] for row in rows(left.join(renamed, ["k == town"]))] == ["p", "q", "p", "q"]
assert left.join(from_csv("k,z\n1.5,1\n").select(["str(k) as k", "z"]), ["k"]).row_count() == 0
fails(lambda: left.join(right, ["z"]), "in the left table", "`k`, `x`")
fails(lambda: left.join(from_csv("k\n1\n"), ["k"]), "cannot be compared")
fails(lambda: left.join(right, ["k"], "cross"), "inner")
fails(lambda: left.join(right, []), "name the columns")

# Hostile sizes end in an error, and the tool goes on.
same = from_columns([("k", Values.Ints(array("q", [1]) * 100_000))])
fails(lambda: same.join(same, ["k"]), "10000000000 rows", "join on more columns")
fewer = from_columns([("k", Values.Ints(array("q", [1]) * 8_000))])
fails(lambda: fewer.join(fewer, ["k"]), "64000000 rows")
assert fewer.row_count() == 8_000
repeated = from_columns([("t", Values.Strings(["x" * 1000]))])
for _ in range(2):
    repeated = repeated.with_column("t", "t + t + t + t + t + t + t + t")
fails(lambda: repeated.with_column("t", "replace(t, 'x', '" + "y" * 100_000 + "')"), "too long")
many = [from_columns([("k", Values.Floats(array("d", [0]) * 1_000_000))])]
try:
    while len(many) < 100:
        many.append(many[-1].with_column("k", "k + 1"))
except tools.ToolError as error:
    # Where every single allocation is checked it is an error of the tool, elsewhere its end.
    assert "memory" in str(error), error
assert len(many) < 100
many.clear()
assert from_csv("a\n1\n").row_count() == 1

# As large as it gets within a second or so.
start = time.monotonic()
with open("big.csv", "w") as file:
    file.write("id,city,price\n")
    for block in range(20):
        file.write("".join(f"{n},city{n % 50},{n % 997}.25\n" for n in range(block * 10_000, block * 10_000 + 10_000)))
written = time.monotonic()
big = load_dataset("big.csv")
top = rows(big.group_by(["city"], ["sum(price) as p"]).sort(["p"], True).limit(1))[0]
assert big.row_count() == 200_000 and top["p"] > 0
print(f"wrote in {written - start:.2f} s, loaded and grouped in {time.monotonic() - written:.2f} s")
