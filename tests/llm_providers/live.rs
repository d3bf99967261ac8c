//! Real providers, where the environment or a `.env` file has keys for them; skipped otherwise.
//!
//! Each costs a few tokens. The models can be named: `OPENAI_MODEL`, `ANTHROPIC_MODEL`.

use agentkernel::llm::{HttpOptions, ModelRequest, StopReason, provider_from_environment};
use libtest_mimic::{Arguments, Failed, Trial};

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn main() {
    // What the environment has goes before the file, which need not be there.
    let _ = dotenvy::dotenv();
    let azure = variable("AZURE_OPENAI_DEPLOYMENT").and_then(|all| {
        let first = all.split(',').next()?;
        Some(first.split('=').next()?.trim().to_owned())
    });
    let or = |model: Option<String>, default: &str| model.unwrap_or_else(|| default.into());
    let trials = [
        ("openai", ["OPENAI_API_KEY", "OPENAI_BASE_URL"], or(variable("OPENAI_MODEL"), "gpt-4o-mini")),
        ("azure", ["AZURE_OPENAI_API_KEY"; 2], or(azure, "")),
        ("anthropic", ["ANTHROPIC_API_KEY"; 2], or(variable("ANTHROPIC_MODEL"), "claude-haiku-4-5")),
    ];
    let trials = trials.into_iter().map(|(provider, signs, model)| {
        let absent = signs.iter().all(|name| variable(name).is_none());
        if absent {
            eprintln!("{provider} is skipped: {} is not set, nor in `.env`", signs[0]);
        }
        Trial::test(provider, move || live(provider, &model)).with_ignored_flag(absent)
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit();
}

fn live(provider: &str, model: &str) -> Result<(), Failed> {
    let lookup = |name: &str| variable(name);
    let provider = provider_from_environment(Some(provider), Some(model), &HttpOptions::new(), lookup)?;
    let mut request = ModelRequest::new(model, "Answer with the one word `pong`.", 1000);
    request.system = Some("You answer with one word.".into());
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let whole = provider.complete(&request, None).await?;
        let mut shown = String::new();
        let mut on_text = |piece: &str| shown.push_str(piece);
        let streamed = provider.complete(&request, Some(&mut on_text)).await?;
        for completion in [&whole, &streamed] {
            let text = completion.text.to_lowercase();
            let counted = completion.tokens.input > 0 && completion.tokens.output > 0;
            if !text.contains("pong") || completion.stop != StopReason::End || !counted {
                return Err(format!("not as expected: {completion:?}").into());
            }
        }
        if shown != streamed.text {
            return Err("the pieces are not the answer".into());
        }
        // A model that there is not.
        let mut wrong = request.clone();
        wrong.model = "no-such-model-as-this".into();
        match provider.complete(&wrong, None).await {
            Err(error) if error.attempts == 1 => println!("{error}"),
            // Azure looks at the deployment alone, and servers of one's own at nothing.
            Ok(_) => {}
            Err(error) => return Err(format!("{error:?}").into()),
        }
        Ok(())
    })
}
