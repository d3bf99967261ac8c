//! What was asked for in flags, variables and the configuration file, put together: flags win over
//! variables, variables over the file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use agentkernel::{
    Access, Constraint, Grants, Kernel, KernelBuilder, Limits, Mount, Tool, ToolGrants, Workspace,
};

use crate::arguments::{Engine, Models, Sandbox, VARIABLES};
use crate::config::{Config, ConstraintConfig, ImageConfig, PrivacyConfig, ToolConfig};
use crate::failure::{Failure, Result};
use crate::llm::Granted;
use crate::repetition::Again;
use crate::task::TasksConfig;
use crate::terminal::escaped;
use crate::units::{Timeout, show_bytes};
use crate::{grants, lasting, sandbox, telemetry, trust, warm};

/// What WebAssembly can address.
const MAX_MEMORY: u64 = 4 << 30;

/// Everything a command needs to start.
#[derive(Debug, Default)]
pub struct Settings {
    pub grants: Grants,
    pub engine: Engine,
    pub config_file: Option<PathBuf>,
    pub tools: Vec<Tool>,
    /// The models that may be asked.
    pub llm: Option<Granted>,
    /// Background tasks as the file has them.
    pub tasks: TasksConfig,
    /// What lasts longer than a session, and what the file says of it.
    pub lasting: lasting::Granted,
    pub configured: lasting::Configured,
    /// Images as the file has them.
    pub images: BTreeMap<String, ImageConfig>,
}

impl Settings {
    /// What a command needs that grants no models.
    pub fn resolve(sandbox: Sandbox) -> Result<Self> {
        Self::resolved(sandbox, None, Limits::default().timeout)
    }

    /// What a command needs that may grant models.
    pub fn with_models(sandbox: Sandbox, models: &Models, again: &Again) -> Result<Self> {
        Self::resolved(sandbox, Some((models, again)), Limits::default().timeout)
    }

    /// The same, with another time limit where none is given.
    pub fn with_timeout(sandbox: Sandbox, models: &Models, again: &Again, timeout: Duration) -> Result<Self> {
        Self::resolved(sandbox, Some((models, again)), Some(timeout))
    }

    fn resolved(
        sandbox: Sandbox,
        models: Option<(&Models, &Again)>,
        timeout: Option<Duration>,
    ) -> Result<Self> {
        check_variables()?;
        let no_config = sandbox.configuration.no_config;
        let config = Config::of(&sandbox.configuration)?;
        sandbox::check(sandbox.sandbox.as_deref().or(config.sandbox.as_deref()))?;
        let base = &config.directory;

        let workspace = sandbox.workspace.or_else(|| config.workspace.as_ref().map(|path| base.join(path)));
        let (mut mounts, mut flagged) = (BTreeMap::<String, Mount>::new(), BTreeSet::new());
        for text in &config.mounts {
            let mount = mount(text, base)?;
            mounts.insert(mount.guest.clone(), mount);
        }
        for text in &sandbox.mounts {
            let mount = mount(text, Path::new(""))?;
            if !flagged.insert(mount.guest.clone()) {
                return Err(Failure::new(format!(
                    "two directories are to stand at `{}`",
                    escaped(&mount.guest)
                ))
                .hint("give each `--mount` a path of its own"));
            }
            mounts.insert(mount.guest.clone(), mount);
        }
        let mut environment = BTreeMap::new();
        for text in config.env.iter().chain(&sandbox.environment) {
            let (name, value) = variable(text)?;
            environment.insert(name, value);
        }

        let mut limits = Limits::default();
        limits.timeout = sandbox.timeout.or(config.timeout).unwrap_or(Timeout(timeout)).0;
        limits.fuel = sandbox.fuel.or(config.fuel);
        limits.memory_bytes = sandbox.memory.or(config.memory).unwrap_or(limits.memory_bytes);
        limits.output_bytes = sandbox.max_output.or(config.max_output).unwrap_or(limits.output_bytes);
        limits.write_bytes = sandbox.max_written.or(config.max_written).unwrap_or(limits.write_bytes);
        limits.open_files = sandbox.max_open_files.or(config.max_open_files).unwrap_or(limits.open_files);
        limits.new_entries = sandbox.max_entries.or(config.max_entries).unwrap_or(limits.new_entries);
        limits.path_bytes = sandbox.max_path.or(config.max_path).unwrap_or(limits.path_bytes);
        limits.operations = sandbox.max_operations.or(config.max_operations).unwrap_or(limits.operations);

        check_limits(&limits)?;

        let tools = tools(&config, &sandbox.tools)?;
        let llm = match models {
            Some((models, again)) => match again.replaying() {
                Some(replaying) => Granted::replayed(replaying, models, &config)?,
                None => Granted::resolve(models, &config, no_config)?,
            },
            None => None,
        };
        // Wrong patterns are told though no model is named.
        let privacy = config.privacy.as_ref().map(PrivacyConfig::privacy).transpose()?;
        let llm = llm.map(|granted| match privacy {
            Some(privacy) => granted.hiding(privacy),
            None => granted,
        });
        let flags = sandbox.engine;
        let settings = Settings {
            grants: Grants {
                workspace: workspace.map_or(Workspace::Temporary, Workspace::Directory),
                mounts: mounts.into_values().collect(),
                environment,
                limits,
                ..Grants::default()
            },
            engine: Engine {
                guest: flags.guest.or_else(|| config.guest.as_ref().map(|path| base.join(path))),
                portable: flags.portable || config.portable.unwrap_or(false),
                cache_dir: flags.cache_dir.or_else(|| config.cache_dir.as_ref().map(|path| base.join(path))),
                no_cache: flags.no_cache,
            },
            configured: lasting::Configured::of(&config),
            lasting: lasting::Granted::default(),
            config_file: config.file,
            tools,
            llm,
            tasks: config.tasks.below(base),
            images: warm::below(&config.image, base),
        };
        trust::check(&settings)?;
        Ok(settings)
    }

    /// The kernel these settings ask for.
    pub fn kernel(&self) -> KernelBuilder {
        let engine = &self.engine;
        let mut builder =
            Kernel::builder().portable(engine.portable).metered(self.grants.limits.fuel.is_some());
        builder = builder.trace_content(telemetry::content());
        if engine.no_cache {
            builder = builder.cache_dir(None);
        } else if let Some(directory) = &engine.cache_dir {
            builder = builder.cache_dir(Some(directory.clone()));
        }
        if let Some(guest) = &engine.guest {
            builder = builder.guest(guest);
        }
        if let Some(granted) = &self.llm {
            builder = builder.llm(granted.llm.clone());
        }
        self.tools.iter().cloned().fold(self.lasting.give(builder), KernelBuilder::tool)
    }
}

/// Refuses limits that no session can have, before an interpreter is compiled for it.
fn check_limits(limits: &Limits) -> Result<()> {
    if limits.timeout == Some(Duration::ZERO) {
        return Err(Failure::new("a time limit of `0s` lets nothing run")
            .hint("give at least `1ms`, or `none` for no limit"));
    }
    if limits.fuel == Some(0) {
        return Err(Failure::new("a fuel limit of `0` lets nothing run")
            .hint("give a positive number, or leave `--fuel` out for no limit"));
    }
    if limits.memory_bytes > MAX_MEMORY {
        return Err(Failure::new(format!(
            "a memory limit of `{}` is more than WebAssembly can address",
            show_bytes(limits.memory_bytes)
        ))
        .hint("give at most `4GiB`"));
    }
    Ok(())
}

/// The tools of the flags and of the file, with what the file grants them, or what lies beside them.
pub fn tools(config: &Config, named: &[PathBuf]) -> Result<Vec<Tool>> {
    let base = &config.directory;
    let mut tools = Vec::new();
    let mut defaults = BTreeMap::new();
    for path in config.tools.iter().map(|path| base.join(path)).chain(named.iter().cloned()) {
        let found = Tool::discover(&path)?;
        let directory = if path.is_dir() { Some(path.as_path()) } else { path.parent() };
        let beside = ToolConfig::beside(directory.unwrap_or(Path::new("")))?;
        for tool in found {
            if let Some(table) = beside.get(tool.name()) {
                defaults.insert(tool.name().to_owned(), table.clone());
            }
            tools.push(tool);
        }
    }
    for name in config.tool.keys() {
        grants::check_effect(name, &config.tool[name])?;
        let exists = tools.iter().any(|tool| tool.name() == name);
        let table = &config.tool[name];
        let sources = [
            table.component.as_ref().map(|component| Ok(Tool::new(name, base.join(component)))),
            table.python.as_ref().map(|directory| Ok(Tool::python(name, base.join(directory)))),
            table.mcp.as_ref().map(|server| Ok(Tool::mcp(name, server.server(name, base)?))),
        ];
        let mut sources: Vec<Result<Tool>> = sources.into_iter().flatten().collect();
        if sources.len() > 1 {
            return Err(Failure::new(format!(
                "`[tool.{name}]` has more than one of `component`, `python` and `mcp`"
            ))
            .hint("keep one of them; give the others tables of their own"));
        }
        let own = sources.pop().transpose()?;
        match own {
            None if !exists => {
                return Err(Failure::new(format!(
                    "there is no tool `{name}` to which `[tool.{name}]` could apply"
                ))
                .hint(format!("name its component there: `component = \"{name}.wasm\"`")));
            }
            None => {}
            Some(tool) => {
                tools.retain(|other| other.name() != name);
                defaults.remove(name);
                tools.push(tool);
            }
        }
    }
    let none = ToolConfig::default();
    let configure = |tool: Tool| {
        let beside = defaults.get(tool.name()).unwrap_or(&none);
        let table = config.tool.get(tool.name()).unwrap_or(&none).over(beside);
        let mut granted = tool_grants(&table, base)?;
        grants::add(tool.name(), &table, &mut granted)?;
        let tool = tool.grants(granted);
        Ok(match &table.summary {
            Some(summary) => tool.summary(summary),
            None => tool,
        })
    };
    tools.sort_by(|one, other| one.name().cmp(other.name()));
    tools.into_iter().map(configure).collect()
}

fn tool_grants(table: &ToolConfig, base: &Path) -> Result<ToolGrants> {
    let mut grants = ToolGrants::default();
    for text in table.mounts.iter().flatten() {
        let relative = if text.starts_with(ToolGrants::WORKSPACE) { Path::new("") } else { base };
        grants.mounts.push(mount(text, relative)?);
    }
    for text in &table.env {
        let (name, value) = variable(text)?;
        grants.environment.insert(name, value);
    }
    for (function, constraints) in &table.allow {
        let constraints = constraints.iter().map(|(path, given)| (path.clone(), constraint(given)));
        grants.allow.insert(function.clone(), constraints.collect());
    }
    grants.per_call = table.per_call.unwrap_or(false);
    grants.resources = table.resources.map(Into::into).unwrap_or_default();
    let limits = &mut grants.limits;
    if let Some(timeout) = table.timeout {
        limits.timeout = timeout.0;
    }
    limits.memory_bytes = table.memory.unwrap_or(limits.memory_bytes);
    limits.write_bytes = table.max_written.unwrap_or(limits.write_bytes);
    limits.open_files = table.max_open_files.unwrap_or(limits.open_files);
    limits.instances = table.max_instances.unwrap_or(limits.instances);
    limits.new_entries = table.max_entries.unwrap_or(limits.new_entries);
    limits.path_bytes = table.max_path.unwrap_or(limits.path_bytes);
    Ok(grants)
}

fn constraint(given: &ConstraintConfig) -> Constraint {
    let ConstraintConfig { pattern, min, max, one_of, max_length, or_none } = given.clone();
    let mut constraint = Constraint::default();
    constraint.pattern = pattern;
    constraint.min = min;
    constraint.max = max;
    constraint.one_of = one_of;
    constraint.max_length = max_length;
    constraint.or_none = or_none;
    constraint
}

/// Refuses variables that look like ours and are not.
pub fn check_variables() -> Result<()> {
    for (name, _) in std::env::vars_os() {
        let Some(name) = name.to_str() else { continue };
        if name.starts_with("AGENTKERNEL_") && !VARIABLES.contains(&name) {
            let known = VARIABLES.join(", ");
            return Err(Failure::new(format!("the environment variable `{name}` is not a setting"))
                .hint(format!("unset it, or use one of {known}")));
        }
    }
    Ok(())
}

/// Parses `HOST:GUEST[:ro|rw]`. The guest path starts at the last `:/`, so a host path may have colons.
fn mount(text: &str, base: &Path) -> Result<Mount> {
    let wrong = || {
        Failure::new(format!("`{text}` is not a mount"))
            .hint("write `--mount HOST:GUEST` or `--mount HOST:GUEST:rw`, as in `--mount ./data:/data`")
    };
    let (paths, access) = match text.rsplit_once(':') {
        Some((paths, "ro")) => (paths, Access::ReadOnly),
        Some((paths, "rw")) => (paths, Access::ReadWrite),
        _ => (text, Access::ReadOnly),
    };
    let split = paths.rfind(":/").ok_or_else(wrong)?;
    let (host, guest) = (&paths[..split], &paths[split + 1..]);
    // A colon there is a misspelt `:ro` or `:rw`.
    if host.is_empty() || guest.contains(':') {
        return Err(wrong());
    }
    Ok(Mount { host: base.join(host), guest: guest.to_owned(), access })
}

/// Parses `NAME=VALUE`, or takes the value of `NAME` from this process.
fn variable(text: &str) -> Result<(String, String)> {
    if let Some((name, value)) = text.split_once('=') {
        return Ok((name.to_owned(), value.to_owned()));
    }
    match std::env::var(text) {
        Ok(value) => Ok((text.to_owned(), value)),
        Err(std::env::VarError::NotPresent) => {
            Err(Failure::new(format!("`{text}` is not set here, so it cannot be passed on"))
                .hint(format!("give a value: `--env {text}=VALUE`")))
        }
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(Failure::new(format!("the value of `{text}` is not UTF-8, so Python could not read it")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read() {
        let read =
            |text| mount(text, Path::new("")).map(|mount| (mount.host, mount.guest, mount.access)).ok();
        assert_eq!(read("a:/b"), Some(("a".into(), "/b".into(), Access::ReadOnly)));
        assert_eq!(read("a:/b:ro"), Some(("a".into(), "/b".into(), Access::ReadOnly)));
        assert_eq!(read("/x:y:/b:rw"), Some(("/x:y".into(), "/b".into(), Access::ReadWrite)));
        assert_eq!(read(r"C:\x:/b"), Some((r"C:\x".into(), "/b".into(), Access::ReadOnly)));
        for wrong in ["", "a", ":/b", "a:b", "a:b:rw", "a:/b:rx", "a:/b:ro:rw"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
