//! Metrics in the text exposition format of Prometheus (version 0.0.4).

use std::fmt::{Display, Write};

use super::{Histogram, Metrics};

impl Metrics {
    /// All numbers as Prometheus reads them: names begin with `agentkernel_`, times are seconds, and what only grows ends
    /// in `_total`. It is served as `text/plain; version=0.0.4; charset=utf-8`.
    pub fn prometheus(&self) -> String {
        let mut text = Text(String::with_capacity(8 << 10));
        text.family("build_info", "gauge", "The version that runs.");
        text.sample("build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);

        text.family("sessions", "gauge", "Sessions that were started and not dropped yet.");
        text.sample("sessions", &[], self.sessions);
        text.family("sessions_started_total", "counter", "Sessions that were started, by what from.");
        for (start, count) in &self.sessions_started {
            text.sample("sessions_started_total", &[("start", start)], count);
        }
        text.family("pool_requests_total", "counter", "Instances that a pool was asked for.");
        text.sample("pool_requests_total", &[("result", "hit")], self.pool_hits);
        text.sample("pool_requests_total", &[("result", "miss")], self.pool_misses);

        text.family("turns_total", "counter", "Turns that ended, by how.");
        for (ending, count) in &self.turns {
            text.sample("turns_total", &[("ending", ending)], count);
        }
        text.family("turns_rolled_back_total", "counter", "Turns after which the session was put back.");
        text.sample("turns_rolled_back_total", &[], self.turns_rolled_back);
        text.histogram("turn_duration_seconds", "How long turns took.", &self.turn_times);

        text.family("tool_calls_total", "counter", "Calls of tools, by tool and by how they ended.");
        for (tool, outcomes) in &self.tool_calls {
            for (outcome, count) in outcomes {
                text.sample("tool_calls_total", &[("tool", tool), ("outcome", outcome)], count);
            }
        }
        text.family("denials_total", "counter", "What was refused since it was not granted.");
        for (what, count) in &self.denials {
            text.sample("denials_total", &[("what", what)], count);
        }

        text.family("llm_calls_total", "counter", "Calls of models, by model and by how they ended.");
        for (model, asked) in &self.models {
            for (outcome, count) in &asked.calls {
                text.sample("llm_calls_total", &[("model", model), ("outcome", outcome)], count);
            }
        }
        text.family("llm_tokens_total", "counter", "Tokens that models read and wrote.");
        for (model, asked) in &self.models {
            text.sample("llm_tokens_total", &[("model", model), ("type", "input")], asked.input_tokens);
            text.sample("llm_tokens_total", &[("model", model), ("type", "output")], asked.output_tokens);
        }
        text.family(
            "llm_cost_dollars_total",
            "counter",
            "What models cost in US dollars, where it is known.",
        );
        for (model, asked) in &self.models {
            text.sample("llm_cost_dollars_total", &[("model", model)], asked.cost);
        }
        text.family("llm_hidden_values_total", "counter", "Values that models were not shown.");
        for (model, asked) in &self.models {
            text.sample("llm_hidden_values_total", &[("model", model)], asked.hidden);
        }
        text.histogram("llm_call_duration_seconds", "How long calls of models took.", &self.model_times);

        text.family("cache_requests_total", "counter", "What caches were asked for, by cache.");
        for (cache, result, count) in [
            ("answers", "hit", self.answer_cache_hits),
            ("answers", "miss", self.answer_cache_misses),
            ("compilation", "hit", self.compilation_cache_hits),
            ("compilation", "miss", self.compilation_cache_misses),
        ] {
            text.sample("cache_requests_total", &[("cache", cache), ("result", result)], count);
        }

        text.family("tasks_running", "gauge", "Tasks that run at the moment.");
        text.sample("tasks_running", &[], self.tasks_running);
        text.family("task_attempts_total", "counter", "Attempts of tasks, by what came of them.");
        for (outcome, count) in &self.task_attempts {
            text.sample("task_attempts_total", &[("outcome", outcome)], count);
        }
        text.0
    }
}

struct Text(String);

impl Text {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // A string takes all.
        let _ = writeln!(self.0, "agentkernel_{line}");
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP agentkernel_{name} {help}");
        let _ = writeln!(self.0, "# TYPE agentkernel_{name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        if labels.is_empty() {
            return self.line(format_args!("{name} {value}"));
        }
        let labels: Vec<String> =
            labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
        self.line(format_args!("{name}{{{}}} {value}", labels.join(",")));
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.family(name, "histogram", help);
        for (length, count) in &histogram.at_most {
            self.sample(&format!("{name}_bucket"), &[("le", &length.as_secs_f64().to_string())], count);
        }
        self.sample(&format!("{name}_bucket"), &[("le", "+Inf")], histogram.count);
        self.sample(&format!("{name}_sum"), &[], histogram.sum.as_secs_f64());
        self.sample(&format!("{name}_count"), &[], histogram.count);
    }
}

/// A label's value between its quotes.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
