//! The tool `plot`: see `wit/plot.wit`.

mod axis;
mod figure;
mod font;
mod frame;
mod layout;
mod marks;
mod pie;
mod png;
mod shape;
mod svg;
mod time;

use std::cell::RefCell;

use exports::agentkernel::plot::plot::{Guest, GuestChart};

use crate::figure::Figure;

wit_bindgen::generate!({ world: "tool", path: "wit" });

struct Tool;

export!(Tool);

impl Guest for Tool {
    type Chart = Chart;
}

struct Chart(RefCell<Figure>);

impl GuestChart for Chart {
    fn new(
        title: Option<String>,
        x_label: Option<String>,
        y_label: Option<String>,
        width: Option<u32>,
        height: Option<u32>,
    ) -> Self {
        Chart(RefCell::new(Figure::new(title, x_label, y_label, width, height)))
    }

    fn line(
        &self,
        x: Vec<f64>,
        y: Vec<f64>,
        name: Option<String>,
        color: Option<String>,
        markers: Option<bool>,
        dashed: Option<bool>,
        fill: Option<bool>,
    ) -> Result<(), String> {
        self.0.borrow_mut().line(x, y, [markers, dashed, fill], name, color.as_deref())
    }

    fn scatter(
        &self,
        x: Vec<f64>,
        y: Vec<f64>,
        name: Option<String>,
        color: Option<String>,
        size: Option<f64>,
    ) -> Result<(), String> {
        self.0.borrow_mut().scatter(x, y, size, name, color.as_deref())
    }

    fn bar(
        &self,
        labels: Vec<String>,
        values: Vec<f64>,
        name: Option<String>,
        color: Option<String>,
        stacked: Option<bool>,
    ) -> Result<(), String> {
        self.0.borrow_mut().bar(labels, values, stacked.unwrap_or(false), name, color.as_deref())
    }

    fn histogram(
        &self,
        values: Vec<f64>,
        bins: Option<u32>,
        name: Option<String>,
        color: Option<String>,
    ) -> Result<(), String> {
        self.0.borrow_mut().histogram(values, bins, name, color.as_deref())
    }

    fn pie(&self, labels: Vec<String>, values: Vec<f64>) -> Result<(), String> {
        self.0.borrow_mut().set_pie(labels, values)
    }

    fn axes(
        &self,
        x_min: Option<f64>,
        x_max: Option<f64>,
        y_min: Option<f64>,
        y_max: Option<f64>,
        x_log: Option<bool>,
        y_log: Option<bool>,
        x_time: Option<bool>,
    ) -> Result<(), String> {
        self.0.borrow_mut().axes((x_min, x_max), (y_min, y_max), [x_log, y_log, x_time])
    }

    fn save(&self, path: String, scale: Option<f64>) -> Result<(), String> {
        let lower = path.to_lowercase();
        let content = if lower.ends_with(".png") {
            self.png(scale)?
        } else if lower.ends_with(".svg") {
            self.svg()?.into_bytes()
        } else {
            return Err(format!(
                "`{}` does not say what to write: end it in .png or .svg",
                path.escape_debug()
            ));
        };
        common::write(&path, &content)
    }

    fn png(&self, scale: Option<f64>) -> Result<Vec<u8>, String> {
        png::render(&layout::picture(&self.0.borrow())?, scale)
    }

    fn svg(&self) -> Result<String, String> {
        Ok(svg::render(&layout::picture(&self.0.borrow())?))
    }
}
