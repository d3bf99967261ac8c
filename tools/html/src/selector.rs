//! CSS selectors. Each part of one is compared once with each element, in the order of the page, so
//! that the time is the product of both, whatever combinators there are.

use std::collections::HashMap;

use crate::parse;
use crate::tree::{Kind, NONE, Tree};

/// Alternatives, `a, b`.
pub type List = Vec<Complex>;

/// Compounds, each with how it is tied to the one before: `a > b c`.
pub struct Complex(pub Vec<(Combinator, Compound)>);

#[derive(Clone, Copy, PartialEq)]
pub enum Combinator {
    Descendant,
    Child,
    Next,
    Later,
}

/// What one element has to be: `a.b[c]:not(d)`.
pub type Compound = Vec<Simple>;

pub enum Simple {
    Tag(String),
    Id(String),
    Class(String),
    Attribute { name: String, test: Test, value: String, ignore_case: bool },
    Is(List),
    Not(List),
    Has(Vec<(Combinator, Compound)>),
    Nth { step: i32, offset: i32, from_end: bool, of_type: bool },
    Root,
    Empty,
    Any,
}

#[derive(Clone, Copy)]
pub enum Test {
    Present,
    Equal,
    Word,
    Dash,
    Start,
    End,
    Within,
}

/// The elements that `selector` finds, in the order of the page.
///
/// # Errors
///
/// What is wrong with the selector.
pub fn select(tree: &Tree, selector: &str) -> Result<Vec<u32>, String> {
    let list = parse::list(selector)?;
    let found = Matcher::new(tree).list(&list);
    Ok((0..tree.nodes.len() as u32).filter(|node| found[*node as usize]).collect())
}

/// The places of an element among its siblings, from 1.
#[derive(Clone, Copy, Default)]
struct Places {
    first: u32,
    last: u32,
    first_of_type: u32,
    last_of_type: u32,
}

struct Matcher<'a> {
    tree: &'a Tree,
    places: Option<Vec<Places>>,
}

/// A simple selector with what is known of each element already.
enum Ready<'a> {
    Simple(&'a Simple),
    Known(Vec<bool>, bool),
}

impl<'a> Matcher<'a> {
    fn new(tree: &'a Tree) -> Self {
        Matcher { tree, places: None }
    }

    fn list(&mut self, list: &List) -> Vec<bool> {
        let mut found = vec![false; self.tree.nodes.len()];
        for complex in list {
            self.complex(&complex.0, &mut found);
        }
        found
    }

    /// Adds what a complex selector finds. A bit of a word stands for a compound: the first ones of the
    /// selector, up to this one, fit an element, or one around it, or one before it.
    fn complex(&mut self, parts: &[(Combinator, Compound)], found: &mut [bool]) {
        let compounds: Vec<Vec<Ready<'_>>> =
            parts.iter().map(|(_, compound)| self.prepare(compound)).collect();
        let nodes = &self.tree.nodes;
        let mut own = vec![0u64; nodes.len()];
        let mut around = vec![0u64; nodes.len()];
        // For each node with children, the state of the last element of them that was seen, and of all.
        let mut previous = vec![(0u64, 0u64); nodes.len()];
        for index in 1..nodes.len() {
            if matches!(nodes[index].kind, Kind::Text(_)) {
                continue;
            }
            let parent = nodes[index].parent as usize;
            around[index] = around[parent] | own[parent];
            let (next, later) = previous[parent];
            let mut bits = 0;
            for (place, compound) in compounds.iter().enumerate() {
                let before = match parts[place].0 {
                    _ if place == 0 => 1,
                    Combinator::Descendant => around[index] >> (place - 1) & 1,
                    Combinator::Child => own[parent] >> (place - 1) & 1,
                    Combinator::Next => next >> (place - 1) & 1,
                    Combinator::Later => later >> (place - 1) & 1,
                };
                if before == 1 && compound.iter().all(|simple| self.fits(index, simple)) {
                    bits |= 1 << place;
                }
            }
            own[index] = bits;
            previous[parent] = (bits, later | bits);
            found[index] |= bits >> (compounds.len() - 1) & 1 == 1;
        }
    }

    fn prepare<'s>(&mut self, compound: &'s Compound) -> Vec<Ready<'s>> {
        compound
            .iter()
            .map(|simple| match simple {
                Simple::Is(list) => Ready::Known(self.list(list), true),
                Simple::Not(list) => Ready::Known(self.list(list), false),
                Simple::Has(relative) => Ready::Known(self.has(relative), true),
                Simple::Nth { .. } => {
                    if self.places.is_none() {
                        self.places = Some(places(self.tree));
                    }
                    Ready::Simple(simple)
                }
                simple => Ready::Simple(simple),
            })
            .collect()
    }

    /// The elements that have one which fits within them, or after them.
    fn has(&mut self, relative: &[(Combinator, Compound)]) -> Vec<bool> {
        let nodes = &self.tree.nodes;
        let mut having = vec![false; nodes.len()];
        for (combinator, compound) in relative {
            let compound = self.prepare(compound);
            // Whether one of those within a node fits, and whether the next sibling or a later one does.
            let mut within = vec![false; nodes.len()];
            let mut after = vec![(false, false); nodes.len()];
            for index in (1..nodes.len()).rev() {
                if matches!(nodes[index].kind, Kind::Text(_)) {
                    continue;
                }
                let parent = nodes[index].parent as usize;
                let fits = compound.iter().all(|simple| self.fits(index, simple));
                having[index] |= match combinator {
                    Combinator::Descendant => within[index],
                    Combinator::Next => after[parent].0,
                    Combinator::Later => after[parent].1,
                    Combinator::Child => false,
                };
                within[parent] |= fits || within[index];
                after[parent] = (fits, after[parent].1 || fits);
                if *combinator == Combinator::Child {
                    having[parent] |= fits;
                }
            }
        }
        having
    }

    fn fits(&self, index: usize, simple: &Ready<'_>) -> bool {
        let simple = match simple {
            Ready::Known(known, wanted) => return known[index] == *wanted,
            Ready::Simple(simple) => simple,
        };
        let node = &self.tree.nodes[index];
        let Kind::Element(element) = &node.kind else { return false };
        match simple {
            Simple::Any => true,
            Simple::Tag(tag) => element.tag == *tag,
            Simple::Id(id) => element.attribute("id") == Some(id),
            Simple::Class(class) => element
                .attribute("class")
                .is_some_and(|classes| classes.split_ascii_whitespace().any(|other| other == class)),
            Simple::Attribute { name, test, value, ignore_case } => {
                element.attribute(name).is_some_and(|actual| {
                    if *ignore_case {
                        passes(*test, &actual.to_lowercase(), &value.to_lowercase())
                    } else {
                        passes(*test, actual, value)
                    }
                })
            }
            Simple::Root => node.parent == 0,
            Simple::Empty => self.tree.children(index as u32).all(
                |child| matches!(&self.tree.nodes[child as usize].kind, Kind::Text(text) if text.is_empty()),
            ),
            Simple::Nth { step, offset, from_end, of_type } => {
                let Some(places) = self.places.as_ref().map(|places| places[index]) else { return false };
                let place = match (from_end, of_type) {
                    (false, false) => places.first,
                    (true, false) => places.last,
                    (false, true) => places.first_of_type,
                    (true, true) => places.last_of_type,
                };
                let (distance, step) = (i64::from(place) - i64::from(*offset), i64::from(*step));
                if step == 0 { distance == 0 } else { distance % step == 0 && distance / step >= 0 }
            }
            // Made `Ready::Known`.
            Simple::Is(_) | Simple::Not(_) | Simple::Has(_) => false,
        }
    }
}

fn passes(test: Test, actual: &str, value: &str) -> bool {
    match test {
        Test::Present => true,
        Test::Equal => actual == value,
        Test::Word => !value.is_empty() && actual.split_ascii_whitespace().any(|word| word == value),
        Test::Dash => actual.strip_prefix(value).is_some_and(|rest| rest.is_empty() || rest.starts_with('-')),
        Test::Start => !value.is_empty() && actual.starts_with(value),
        Test::End => !value.is_empty() && actual.ends_with(value),
        Test::Within => !value.is_empty() && actual.contains(value),
    }
}

fn places(tree: &Tree) -> Vec<Places> {
    let mut places = vec![Places::default(); tree.nodes.len()];
    let mut types: HashMap<&str, u32> = HashMap::new();
    for parent in 0..tree.nodes.len() as u32 {
        if tree.nodes[parent as usize].first == NONE {
            continue;
        }
        let children: Vec<u32> =
            tree.children(parent).filter(|child| tree.element(*child).is_some()).collect();
        types.clear();
        for (child, place) in children.iter().zip(1..) {
            let count = types.entry(tree.tag(*child)).or_default();
            *count += 1;
            places[*child as usize].first = place;
            places[*child as usize].first_of_type = *count;
        }
        types.clear();
        for (child, place) in children.iter().rev().zip(1..) {
            let count = types.entry(tree.tag(*child)).or_default();
            *count += 1;
            places[*child as usize].last = place;
            places[*child as usize].last_of_type = *count;
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "<main id=m><h1 class='a b'>T</h1><p lang=en-GB>1</p><p class=B>2<a href='x.PDF'>l</a></p>\
        <ul><li>1<li>2<li>3<li>4</ul><div></div><section><p>3<b><i>x</i></b></p></section></main>";

    fn ids(selector: &str) -> String {
        let tree = Tree::parse(PAGE);
        let found = select(&tree, selector).unwrap();
        found.iter().map(|node| tree.tag(*node).to_owned()).collect::<Vec<_>>().join(" ")
    }

    fn texts(selector: &str) -> String {
        let tree = Tree::parse(PAGE);
        select(&tree, selector).unwrap().iter().map(|node| tree.inner(*node)).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn selectors_find_what_css_says() {
        for (selector, tags) in [
            ("#m > p", "p p"),
            ("main p", "p p p"),
            ("h1 + p, h1 ~ div", "p div"),
            (".a.b", "h1"),
            (".b", "h1"),
            ("[lang|=en]", "p"),
            ("a[href$='.pdf' i]", "a"),
            ("a[href$='.pdf']", ""),
            ("div:empty", "div"),
            ("p:not(.B):not(section p)", "p"),
            (":is(h1, ul):first-child", "h1"),
            ("p:has(a)", "p"),
            ("p:has(> b)", "p"),
            ("p:has(> i)", ""),
            ("h1:has(+ p)", "h1"),
            ("ul:has(~ section)", "ul"),
            (":root", "main"),
            ("main b > i:only-child", "i"),
            ("section > *", "p"),
            ("DIV", "div"),
            ("p:last-of-type", "p p"),
        ] {
            assert_eq!(ids(selector), tags, "{selector}");
        }
        assert_eq!(texts("li:nth-child(odd)"), "1 3");
        assert_eq!(texts("li:nth-child(-n+2)"), "1 2");
        assert_eq!(texts("li:nth-last-child( 2 )"), "3");
        assert_eq!(texts("li:nth-child(2n + 2)"), "2 4");
    }

    #[test]
    fn wrong_selectors_say_where() {
        for selector in
            ["", "a >", "a,,b", "[x", "a:hover", ":nth-child(x)", "..a", "a > > b", ":not()", "#", "a)"]
        {
            assert!(select(&Tree::parse("<a>"), selector).is_err(), "{selector}");
        }
        let deep = format!("{}a{}", ":not(".repeat(5000), ")".repeat(5000));
        assert!(select(&Tree::parse("<a>"), &deep).is_err());
        assert!(select(&Tree::parse("<a>"), &"a ".repeat(5000)).is_err());
    }
}
