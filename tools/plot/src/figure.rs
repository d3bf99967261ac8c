//! What a chart was given, checked.

use crate::axis::Kind;
use crate::shape::Color;

/// Numbers of all series together.
const NUMBERS: usize = 4_000_000;
const SERIES: usize = 200;
const LABELS: usize = 2_000;
/// Beyond this the difference of two numbers may be infinite.
const LARGEST: f64 = 1e300;
/// The end of the year 9999.
const LATEST: f64 = 253_402_300_799.0;
/// Letters of a title or a label.
const LETTERS: usize = 500;

pub enum Data {
    Line { x: Vec<f64>, y: Vec<f64>, markers: bool, dashed: bool, fill: bool },
    Scatter { x: Vec<f64>, y: Vec<f64>, size: f64 },
    Bar { values: Vec<f64>, stacked: bool },
    Histogram { values: Vec<f64> },
}

pub struct Series {
    pub data: Data,
    pub name: Option<String>,
    pub color: Option<Color>,
}

#[derive(Clone, Copy)]
pub struct Bounds {
    pub kind: Kind,
    pub min: Option<f64>,
    pub max: Option<f64>,
}

impl Bounds {
    const FREE: Bounds = Bounds { kind: Kind::Linear, min: None, max: None };

    fn new(name: char, kind: Kind, min: Option<f64>, max: Option<f64>) -> Result<Self, String> {
        for (end, value) in [("min", min), ("max", max)] {
            if let Some(value) = value.filter(|value| value.is_nan() || value.abs() > LARGEST) {
                return Err(format!("`{name}_{end}` is {value}: give a finite number up to 1e300"));
            }
            if let Some(value) = value.filter(|value| kind == Kind::Log && *value <= 0.0) {
                return Err(format!("`{name}_{end}` is {value}: a logarithmic axis begins above zero"));
            }
        }
        match (min, max) {
            (Some(min), Some(max)) if min >= max => {
                Err(format!("`{name}_min` is {min} and `{name}_max` is {max}: the minimum has to be smaller"))
            }
            _ => Ok(Bounds { kind, min, max }),
        }
    }
}

pub struct Figure {
    pub title: Option<String>,
    pub x_label: Option<String>,
    pub y_label: Option<String>,
    pub width: u32,
    pub height: u32,
    pub series: Vec<Series>,
    /// Of the bars.
    pub labels: Vec<String>,
    pub bins: Option<u32>,
    pub pie: Option<(Vec<String>, Vec<f64>)>,
    pub x: Bounds,
    pub y: Bounds,
    numbers: usize,
}

/// A text that is drawn, without what would break its line.
fn text(text: String) -> String {
    text.chars()
        .take(LETTERS)
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect::<String>()
        .trim()
        .to_owned()
}

impl Figure {
    pub fn new(
        title: Option<String>,
        x_label: Option<String>,
        y_label: Option<String>,
        width: Option<u32>,
        height: Option<u32>,
    ) -> Self {
        let label = |given: Option<String>| given.map(text).filter(|text| !text.is_empty());
        Figure {
            title: label(title),
            x_label: label(x_label),
            y_label: label(y_label),
            // A constructor cannot fail.
            width: width.unwrap_or(800).clamp(200, 4000),
            height: height.unwrap_or(500).clamp(200, 4000),
            series: Vec::new(),
            labels: Vec::new(),
            bins: None,
            pie: None,
            x: Bounds::FREE,
            y: Bounds::FREE,
            numbers: 0,
        }
    }

    /// Checks numbers, and makes those that are gaps NaN.
    fn numbers(&mut self, name: &str, mut values: Vec<f64>) -> Result<Vec<f64>, String> {
        self.numbers += values.len();
        if self.numbers > NUMBERS {
            return Err(format!("a chart takes {NUMBERS} numbers: give a sample, or fewer series"));
        }
        for (index, value) in values.iter_mut().enumerate() {
            if !value.is_finite() {
                *value = f64::NAN;
            } else if value.abs() > LARGEST {
                return Err(format!("`{name}[{index}]` is {value:e}: a chart takes numbers up to 1e300"));
            }
        }
        Ok(values)
    }

    fn pairs(&mut self, x: Vec<f64>, y: Vec<f64>) -> Result<(Vec<f64>, Vec<f64>), String> {
        if x.len() != y.len() {
            return Err(format!("`x` has {} numbers and `y` has {}: give as many", x.len(), y.len()));
        }
        if x.is_empty() {
            return Err("`x` and `y` are empty".to_owned());
        }
        Ok((self.numbers("x", x)?, self.numbers("y", y)?))
    }

    fn add(&mut self, data: Data, name: Option<String>, color: Option<&str>) -> Result<(), String> {
        if self.pie.is_some() {
            return Err("this is a pie chart already: make another `Chart`".to_owned());
        }
        if self.series.len() == SERIES {
            return Err(format!("a chart takes {SERIES} series"));
        }
        let color = color.map(Color::parse).transpose()?;
        let name = name.map(text).filter(|name| !name.is_empty());
        self.series.push(Series { data, name, color });
        Ok(())
    }

    pub fn line(
        &mut self,
        x: Vec<f64>,
        y: Vec<f64>,
        [markers, dashed, fill]: [Option<bool>; 3],
        name: Option<String>,
        color: Option<&str>,
    ) -> Result<(), String> {
        let (x, y) = self.pairs(x, y)?;
        let [markers, dashed, fill] = [markers, dashed, fill].map(|given| given.unwrap_or(false));
        self.add(Data::Line { x, y, markers, dashed, fill }, name, color)
    }

    pub fn scatter(
        &mut self,
        x: Vec<f64>,
        y: Vec<f64>,
        size: Option<f64>,
        name: Option<String>,
        color: Option<&str>,
    ) -> Result<(), String> {
        let size = size.unwrap_or(7.0);
        if !(1.0..=50.0).contains(&size) {
            return Err(format!("`size` is {size}: give one from 1 to 50"));
        }
        let (x, y) = self.pairs(x, y)?;
        self.add(Data::Scatter { x, y, size }, name, color)
    }

    pub fn bar(
        &mut self,
        labels: Vec<String>,
        values: Vec<f64>,
        stacked: bool,
        name: Option<String>,
        color: Option<&str>,
    ) -> Result<(), String> {
        let labels = checked_labels(labels, values.len(), LABELS)?;
        if !self.labels.is_empty() && self.labels != labels {
            return Err(
                "these are other labels than those of the bars before: give the same, in the same order"
                    .to_owned(),
            );
        }
        let values = self.numbers("values", values)?;
        self.add(Data::Bar { values, stacked }, name, color)?;
        self.labels = labels;
        Ok(())
    }

    pub fn histogram(
        &mut self,
        values: Vec<f64>,
        bins: Option<u32>,
        name: Option<String>,
        color: Option<&str>,
    ) -> Result<(), String> {
        if let Some(bins) = bins.filter(|bins| !(1..=500).contains(bins)) {
            return Err(format!("`bins` is {bins}: give a number from 1 to 500"));
        }
        let mut values = self.numbers("values", values)?;
        values.retain(|value| value.is_finite());
        if values.is_empty() {
            return Err("`values` has no finite number".to_owned());
        }
        self.add(Data::Histogram { values }, name, color)?;
        self.bins = bins.or(self.bins);
        Ok(())
    }

    pub fn set_pie(&mut self, labels: Vec<String>, values: Vec<f64>) -> Result<(), String> {
        if !self.series.is_empty() || self.pie.is_some() {
            return Err("a pie chart is combined with nothing: make another `Chart`".to_owned());
        }
        let labels = checked_labels(labels, values.len(), 30)?;
        let mut values = self.numbers("values", values)?;
        for (index, value) in values.iter_mut().enumerate() {
            if *value < 0.0 {
                return Err(format!("`values[{index}]` is {value}: a pie has no negative shares"));
            }
            if value.is_nan() {
                *value = 0.0;
            }
        }
        let sum: f64 = values.iter().map(|value| value / 30.0).sum();
        if sum <= 0.0 {
            return Err("`values` has nothing above zero".to_owned());
        }
        self.pie = Some((labels, values));
        Ok(())
    }

    pub fn axes(
        &mut self,
        x: (Option<f64>, Option<f64>),
        y: (Option<f64>, Option<f64>),
        [x_log, y_log, x_time]: [Option<bool>; 3],
    ) -> Result<(), String> {
        let x_kind = match (x_log.unwrap_or(false), x_time.unwrap_or(false)) {
            (true, true) => return Err("`x_log` and `x_time` exclude each other".to_owned()),
            (true, false) => Kind::Log,
            (false, true) => Kind::Time,
            (false, false) => Kind::Linear,
        };
        let y_kind = if y_log.unwrap_or(false) { Kind::Log } else { Kind::Linear };
        let (x, y) = (Bounds::new('x', x_kind, x.0, x.1)?, Bounds::new('y', y_kind, y.0, y.1)?);
        (self.x, self.y) = (x, y);
        Ok(())
    }

    /// # Errors
    ///
    /// That a number is no time, or no histogram can be on such an axis.
    pub fn check(&self) -> Result<(), String> {
        if self.x.kind == Kind::Time {
            let given = self.series.iter().flat_map(|series| match &series.data {
                Data::Line { x, .. } | Data::Scatter { x, .. } => x.as_slice(),
                Data::Histogram { values } => values.as_slice(),
                Data::Bar { .. } => &[],
            });
            let ends = [self.x.min, self.x.max];
            let wrong = given.chain(ends.iter().flatten()).find(|value| value.abs() > LATEST);
            if let Some(wrong) = wrong {
                return Err(format!(
                    "with `x_time`, x is in seconds since 1970, up to the year 9999, and not {wrong}: divide milliseconds by 1000"
                ));
            }
        }
        if self.x.kind != Kind::Linear && !self.labels.is_empty() {
            return Err(
                "bars stand at their labels: an axis x of numbers or times is not for them".to_owned()
            );
        }
        Ok(())
    }
}

fn checked_labels(labels: Vec<String>, values: usize, most: usize) -> Result<Vec<String>, String> {
    if labels.len() != values {
        return Err(format!("there are {} labels and {values} values: give as many", labels.len()));
    }
    if labels.is_empty() {
        return Err("`labels` is empty".to_owned());
    }
    if labels.len() > most {
        return Err(format!(
            "there are {} labels, and a chart of this kind takes {most}: add up the smallest",
            labels.len()
        ));
    }
    Ok(labels.into_iter().map(text).collect())
}
