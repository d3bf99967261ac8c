//! Tables for analysis: see `wit/data-analysis.wit`.

mod describe;
mod expression;
mod group;
mod join;
mod table;
mod write;

use std::fs::File;
use std::io;
use std::rc::Rc;

use exports::agentkernel::data_analysis::data_analysis::{
    ColumnInfo, Guest, GuestTable, Summary, Table as Handle, TableBorrow, Values,
};
use table::Table;
use tabular::column::{self, Column, Kind, NO_BOOL, NO_INT, Result, Text, collect, room};
use tabular::source::Source;
use tabular::{csv, extension, intern, json};
use write::Form;

wit_bindgen::generate!({ world: "tool", path: "wit" });

struct Tool;

export!(Tool);

fn handle(table: Result<Table>) -> Result<Handle> {
    table.map(Handle::new)
}

fn made((names, columns): (Vec<String>, Vec<Column>)) -> Table {
    Table::new(names, columns)
}

fn format(delimiter: Option<char>, header: Option<bool>) -> Result<csv::Format> {
    Ok(csv::Format { delimiter: csv::delimiter(delimiter)?, header })
}

impl Guest for Tool {
    type Table = Table;

    fn load_dataset(path: String, delimiter: Option<char>, header: Option<bool>) -> Result<Handle> {
        handle(tabular::load(&path, format(delimiter, header)?).map(made))
    }

    fn from_csv(text: String, delimiter: Option<char>, header: Option<bool>) -> Result<Handle> {
        handle(csv::read(&mut Source::text(&text), format(delimiter, header)?).map(made))
    }

    fn from_json(text: String) -> Result<Handle> {
        handle(json::read(text.as_bytes()).map(made))
    }

    fn from_rows(rows: String) -> Result<Handle> {
        Self::from_json(rows)
    }

    fn from_columns(columns: Vec<(String, Values)>) -> Result<Handle> {
        let mut names = Vec::new();
        let mut made = Vec::new();
        for (name, values) in columns {
            if names.contains(&name) {
                return Err(format!("two columns are named `{name}`"));
            }
            names.push(name);
            made.push(match values {
                Values::Ints(values) => {
                    if values.contains(&NO_INT) {
                        return Err(format!("{NO_INT} is too small a number for int64 here"));
                    }
                    Column::Int(Rc::new(values), Kind::Number)
                }
                Values::Floats(values) => Column::Float(Rc::new(values)),
                Values::Bools(values) => {
                    let values = values.into_iter().map(|value| value.map_or(NO_BOOL, u8::from));
                    Column::Bool(Rc::new(collect(values)?))
                }
                Values::Strings(values) => {
                    let mut interner = intern::Interner::default();
                    let mut codes = room(values.len())?;
                    for value in &values {
                        codes.push(match value {
                            Some(text) => interner.add(text.as_bytes())?,
                            None => intern::MISSING,
                        });
                    }
                    Column::Text(Text::new(codes, interner.finish()))
                }
            });
        }
        let rows = made.first().map_or(0, Column::len);
        if let Some(position) = made.iter().position(|column| column.len() != rows) {
            return Err(format!(
                "the columns have different lengths: `{}` has {rows} values, `{}` has {}",
                names[0],
                names[position],
                made[position].len()
            ));
        }
        handle(Ok(Table::new(names, made)))
    }
}

impl Table {
    fn text(&self, form: Form) -> Result<String> {
        let mut out = String::new();
        write::Sink::spill(&mut write::Whole, &mut out)?;
        write::write(self, form, &mut out, &mut write::Whole)?;
        Ok(out)
    }
}

impl GuestTable for Table {
    fn columns(&self) -> Vec<ColumnInfo> {
        let info = |(name, column): (&String, &Column)| ColumnInfo {
            name: name.clone(),
            type_: column.type_name().to_owned(),
            missing: column.missing() as u64,
        };
        self.names.iter().zip(&self.columns).map(info).collect()
    }

    fn row_count(&self) -> u64 {
        self.rows as u64
    }

    fn head(&self, count: Option<u32>) -> String {
        let mut out = String::new();
        // There is no memory that could be missing for some rows; if there is, some are missing.
        let _ = write::markdown(self, count.unwrap_or(10) as usize, &mut out, &mut write::Whole);
        out
    }

    fn column(&self, name: String) -> Result<Values> {
        let column = Table::column(self, &name)?;
        Ok(match column {
            Column::Int(values, Kind::Number) if !values.contains(&NO_INT) => {
                Values::Ints(collect(values.iter().copied())?)
            }
            Column::Int(values, Kind::Number) => {
                Values::Floats(collect(values.iter().map(|value| column::float(*value)))?)
            }
            Column::Float(values) => Values::Floats(collect(values.iter().copied())?),
            Column::Bool(values) => {
                Values::Bools(collect(values.iter().map(|value| (*value != NO_BOOL).then_some(*value == 1)))?)
            }
            other => {
                let mut texts = room(other.len())?;
                for row in 0..other.len() {
                    let mut text = String::new();
                    texts.push(other.write(row, &mut text).then_some(text));
                }
                Values::Strings(texts)
            }
        })
    }

    fn describe(&self) -> Result<Vec<Summary>> {
        describe::describe(self)
    }

    fn filter(&self, condition: String) -> Result<Handle> {
        handle(Table::filter(self, &condition))
    }

    fn select(&self, columns: Vec<String>) -> Result<Handle> {
        handle(Table::select(self, &columns))
    }

    fn with_column(&self, name: String, expression: String) -> Result<Handle> {
        handle(Table::with_column(self, &name, &expression))
    }

    fn group_by(&self, keys: Vec<String>, aggregates: Vec<String>) -> Result<Handle> {
        handle(group::group_by(self, &keys, &aggregates))
    }

    fn join(&self, other: TableBorrow<'_>, on: Vec<String>, how: Option<String>) -> Result<Handle> {
        handle(join::join(self, other.get::<Table>(), &on, how.as_deref().unwrap_or("inner")))
    }

    fn sort(&self, by: Vec<String>, descending: Option<bool>) -> Result<Handle> {
        handle(Table::sort(self, &by, descending.unwrap_or(false)))
    }

    fn unique(&self, columns: Option<Vec<String>>) -> Result<Handle> {
        handle(Table::unique(self, columns.as_deref()))
    }

    fn limit(&self, count: u64, offset: Option<u64>) -> Result<Handle> {
        handle(Table::limit(self, count, offset.unwrap_or(0)))
    }

    fn append(&self, other: TableBorrow<'_>) -> Result<Handle> {
        handle(Table::append(self, other.get::<Table>()))
    }

    fn to_csv(&self) -> Result<String> {
        self.text(Form::Csv(','))
    }

    fn rows(&self) -> Result<String> {
        self.to_json()
    }

    fn to_json(&self) -> Result<String> {
        self.text(Form::Json)
    }

    fn to_markdown(&self) -> Result<String> {
        self.text(Form::Markdown)
    }

    fn save(&self, path: String) -> Result<()> {
        let form = match extension(&path).as_str() {
            "csv" => Form::Csv(','),
            "tsv" => Form::Csv('\t'),
            "json" => Form::Json,
            "jsonl" | "ndjson" => Form::JsonLines,
            "md" => Form::Markdown,
            other => {
                return Err(format!(
                    "`{path}`: `.{other}` is not written; save as .csv, .tsv, .json, .jsonl or .md"
                ));
            }
        };
        let target = common::resolve(&path)?;
        let wrong = |error: io::Error| common::explain("write", &path, &error);
        if target.is_dir() {
            return Err(wrong(io::ErrorKind::IsADirectory.into()));
        }
        // Until it is complete the file has another name.
        let beside = common::beside(&target);
        let mut file = File::create(&beside).map_err(wrong)?;
        let mut out = String::new();
        let written =
            write::write(self, form, &mut out, &mut file).and_then(|()| write::finish(&mut file, &mut out));
        drop(file);
        let done = written.and_then(|()| std::fs::rename(&beside, &target).map_err(wrong));
        done.inspect_err(|_| {
            let _ = std::fs::remove_file(&beside);
        })
    }
}
