//! `agentkernel mcp serve`: a server that MCP clients run programs on.
//!
//! Standard output is the protocol's where it is spoken there; all that is said goes to standard error.

use std::future::Future;
use std::io::IsTerminal;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc;
use std::time::Duration;

use agentkernel_mcp::{HttpSettings, Server, ServerLimits, Token};
use tokio::sync::oneshot;

use crate::arguments::{Http, McpAction, Serve};
use crate::failure::{Failure, Result};
use crate::repetition::Again;
use crate::settings::Settings;
use crate::signals::{self, Signal};
use crate::task::Background;
use crate::{overlay, run, terminal, trust, warm};

/// A token, for those who keep secrets in variables. No flag has it: others see those.
const TOKEN: &str = "AGENTKERNEL_MCP_TOKEN";

/// How long what still runs may take to end.
const LAST: Duration = Duration::from_secs(2);

pub fn run(action: McpAction) -> Result<i32> {
    match action {
        McpAction::Serve(serve) => self::serve(*serve),
    }
}

fn serve(arguments: Serve) -> Result<i32> {
    let Serve { sandbox, models, data, tasks, lasting, changes, start, sessions, http, talk, .. } = arguments;
    let mut settings = Settings::with_models(sandbox, &models, &Again::default())?.lasting(&lasting)?;
    if talk.verbose
        && let Some(file) = &settings.config_file
    {
        terminal::remark(&format!("configured by `{}`", file.display()));
    }
    let overlay = overlay::over_workspace(&mut settings.grants, changes)?;
    let http_settings = http_settings(&http, &settings)?;
    if let Some(directory) = &sessions {
        // With an overlay none are kept, which the server says.
        if !changes.overlay {
            trust::apart(&settings, &data.contexts, trust::Writes::Through)?;
        }
        trust::outside(
            &settings,
            "directory of sessions",
            directory,
            "and name it with `--sessions` from elsewhere",
        )?;
    }
    let context = run::context(&data.contexts, &settings)?;
    let kernel = settings.kernel().on_progress(terminal::progress(talk)).build()?;
    let background = Background::start(&tasks, &settings, &kernel)?;

    let mut limits = ServerLimits::default();
    limits.sessions = arguments.max_sessions as usize;
    limits.idle = arguments.idle.map_or(limits.idle, |idle| idle.0);
    limits.clients = http.max_clients as usize;
    limits.unfinished_tasks = settings.tasks.limits().unfinished;
    let mut builder = Server::builder(kernel.clone()).grants(settings.grants.clone()).limits(limits);
    if let Some(image) = &start.image {
        builder = builder.image(warm::image_over(&kernel, &settings, image, context.as_ref())?);
    }
    if let Some(context) = context {
        builder = builder.context(context);
    }
    if let Some(background) = &background {
        builder = builder.tasks(background.tasks.clone());
    }
    if let Some(sessions) = sessions {
        builder = builder.keep_sessions(sessions);
    }
    let server = builder.build()?;

    let (signal, shutdown) = listen()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("cannot start the server: {error}")))?;
    let served = runtime.block_on(async {
        match http_settings {
            None => {
                if !talk.quiet && std::io::stdin().is_terminal() {
                    terminal::remark(
                        "a client speaks MCP here; Ctrl-D ends it, `--http` serves clients elsewhere",
                    );
                }
                server.serve_stdio(shutdown).await
            }
            Some(settings) => {
                let http = server.bind(settings).await?;
                if !talk.quiet {
                    terminal::remark(&format!("serving MCP at {}; Ctrl-C ends it", http.url()));
                }
                http.serve(shutdown).await
            }
        }
    });

    // Sessions end with the runtime, and so do their workspaces; a read of standard input cannot be ended.
    drop(server);
    runtime.shutdown_timeout(LAST);
    if let Some(background) = background {
        background.end(talk);
    }
    if let Some(overlay) = overlay {
        let ended = overlay::end("mcp", &overlay, changes.apply, served.is_ok(), talk.quiet);
        if let Err(failure) = ended {
            terminal::error(&failure.message, failure.hint.as_deref());
            served?;
            return Ok(1);
        }
    }
    served?;
    Ok(signal.try_recv().map_or(0, Signal::exit_code))
}

/// Where HTTP is served, if it is.
fn http_settings(flags: &Http, settings: &Settings) -> Result<Option<HttpSettings>> {
    let Some(address) = &flags.http else { return Ok(None) };
    let mut http = HttpSettings::new(self::address(address)?);
    if let Some(token) = token(flags, settings)? {
        http = http.token(token);
    }
    http = flags.hosts.iter().fold(http, HttpSettings::allow_host);
    Ok(Some(flags.origins.iter().fold(http, HttpSettings::allow_origin)))
}

/// `ADDRESS:PORT`, or a port of this machine.
fn address(text: &str) -> Result<SocketAddr> {
    if let Ok(port) = text.parse() {
        return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    text.parse().map_err(|_| {
        Failure::new(format!("`{text}` is no address to listen on"))
            .hint("give an address and a port, `--http=127.0.0.1:8642`, or a port alone, `--http=8642`")
    })
}

fn token(flags: &Http, settings: &Settings) -> Result<Option<Token>> {
    if let Some(file) = &flags.token_file {
        trust::hidden(file, trust::readable(settings))?;
        let text = std::fs::read_to_string(file).map_err(|error| {
            Failure::new(format!("cannot read the token in `{}`: {error}", file.display()))
                .hint("`openssl rand -hex 32 > FILE` makes one")
        })?;
        return Ok(Some(Token::new(&text)?));
    }
    match std::env::var(TOKEN) {
        Ok(text) => Ok(Some(Token::new(&text)?)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(error) => Err(Failure::new(format!("`{TOKEN}` cannot be read: {error}"))),
    }
}

/// The signal that ends the server, once it has come, and what is ready then. A second one ends the process.
fn listen() -> Result<(mpsc::Receiver<Signal>, impl Future<Output = ()>)> {
    let (say, said) = mpsc::channel();
    let (end, ended) = oneshot::channel();
    let end = std::sync::Mutex::new(Some(end));
    let handle = move |signal: Signal| {
        let end = end.lock().ok().and_then(|mut end| end.take());
        match end {
            Some(end) => {
                let _ = say.send(signal);
                let _ = end.send(());
            }
            None => crate::exit(signal.exit_code()),
        }
    };
    signals::listen(handle).map_err(|error| Failure::new(format!("cannot listen for signals: {error}")))?;
    let shutdown = async move {
        if ended.await.is_err() {
            // Nobody listens to signals here: the process ends by one.
            std::future::pending::<()>().await;
        }
    };
    Ok((said, shutdown))
}
