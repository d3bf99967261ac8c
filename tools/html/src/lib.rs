//! The tool `html`: see `wit/html.wit`.

mod address;
mod markdown;
mod parse;
mod selector;
mod tree;
mod writer;

use exports::agentkernel::html::html::{Element, Guest, Link};

use crate::markdown::Page;
use crate::tree::Tree;

wit_bindgen::generate!({ world: "tool", path: "wit" });

/// What `select` gives at most, in bytes: each element repeats what is within it.
const SELECTED: usize = 32 << 20;
/// Letters of the page's address, which each of its links repeats.
const BASE: usize = 2048;

struct Tool;

export!(Tool);

impl Guest for Tool {
    fn markdown(html: String, base: Option<String>, selector: Option<String>) -> Result<String, String> {
        let tree = Tree::parse(&html);
        let base = base_of(&tree, base)?;
        let nodes = match selector {
            Some(selector) => outermost(&tree, &selector::select(&tree, &selector)?),
            None => vec![0],
        };
        Ok(Page { tree: &tree, base: base.as_deref(), plain: false }.render(&nodes))
    }

    fn select(html: String, selector: String, limit: Option<u32>) -> Result<Vec<Element>, String> {
        let tree = Tree::parse(&html);
        let page = Page { tree: &tree, base: None, plain: true };
        let mut length = 0;
        let found = selector::select(&tree, &selector)?;
        let most = limit.map_or(usize::MAX, |limit| limit as usize);
        found
            .into_iter()
            .take(most)
            .map(|node| {
                let element = tree.element(node).ok_or("no element")?;
                let element = Element {
                    tag: element.tag.clone(),
                    attributes: element.attributes.clone(),
                    text: page.render(&[node]),
                    inner: tree.inner(node),
                    outer: tree.outer(node),
                };
                length += element.text.len() + element.inner.len() + element.outer.len();
                if length > SELECTED {
                    return Err(
                        "the result has more than 32 MiB: give a narrower selector or a `limit`".to_owned()
                    );
                }
                Ok(element)
            })
            .collect()
    }

    fn text(html: String) -> String {
        let tree = Tree::parse(&html);
        Page { tree: &tree, base: None, plain: true }.render(&[0])
    }

    fn links(html: String, base: Option<String>) -> Result<Vec<Link>, String> {
        let tree = Tree::parse(&html);
        let base = base_of(&tree, base)?;
        let page = Page { tree: &tree, base: None, plain: true };
        let links = (0..tree.nodes.len() as u32).filter_map(|node| {
            let element = tree.element(node).filter(|element| matches!(&*element.tag, "a" | "area"))?;
            let url = element.attribute("href").filter(|url| address::is_inert(url))?;
            let mut text = page.line(node);
            if text.is_empty() {
                let named = ["alt", "title", "aria-label"].iter().find_map(|name| element.attribute(name));
                text = named.unwrap_or_default().to_owned();
            }
            Some(Link { url: address::resolve(base.as_deref(), url), text })
        });
        Ok(links.collect())
    }
}

/// The nodes that lie within no other of them.
fn outermost(tree: &Tree, nodes: &[u32]) -> Vec<u32> {
    let mut end = 0;
    let outside = |node: &&u32| {
        let outside = **node >= end;
        if outside {
            end = tree.end(**node);
        }
        outside
    };
    nodes.iter().filter(outside).copied().collect()
}

/// Where the links of a page start: at its `<base href>`, at the address that was given.
fn base_of(tree: &Tree, given: Option<String>) -> Result<Option<String>, String> {
    if let Some(given) = given.as_ref().filter(|given| !address::is_absolute(given) || given.len() > BASE) {
        let shown: String = given.chars().take(200).collect();
        return Err(format!("`base` is no absolute address, such as `https://example.org/a/`: `{shown}`"));
    }
    let bases =
        (0..tree.nodes.len() as u32).filter_map(|node| tree.element(node)).filter(|node| node.tag == "base");
    let Some(own) = bases.filter_map(|base| base.attribute("href")).next() else { return Ok(given) };
    let own = address::resolve(given.as_deref(), own);
    Ok(Some(own).filter(|own| address::is_absolute(own) && own.len() <= BASE).or(given))
}
