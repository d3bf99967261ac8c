//! What is put in for one program: its source, the Python modules it may import, and the functions of
//! its tools with their types. `host/src/compose/data.rs` writes it.

use std::sync::OnceLock;

use crate::composed;

pub struct Program {
    /// File names and sources, run in this order.
    pub sources: Vec<(&'static str, &'static str)>,
    /// Names of the modules below, without their submodules.
    pub provided: Vec<&'static str>,
    pub modules: Vec<Module>,
    pub types: Vec<Type>,
    /// What the numbers that Python calls by stand for.
    pub targets: Vec<Target>,
}

pub struct Module {
    pub name: &'static str,
    pub source: &'static str,
    pub is_package: bool,
}

pub enum Target {
    Function(Function),
    /// Closes a handle of this resource type.
    Close(u32),
    Refused(&'static str),
}

pub struct Function {
    /// Its number for [`composed::call`].
    pub number: u32,
    /// Its parameters, as if they were the fields of a record.
    pub parameters: usize,
    pub result: Option<usize>,
    /// Whether the parameters are passed in memory.
    pub indirect: bool,
    /// Whether the result is returned in memory.
    pub returns_in_memory: bool,
}

/// A type, with its layout in memory and how many registers a value takes.
pub struct Type {
    pub size: usize,
    pub align: usize,
    pub flat: usize,
    pub shape: Shape,
}

/// Types within types are positions in [`Program::types`].
pub enum Shape {
    /// Of which all patterns of bits are values.
    Plain,
    Bool,
    Char,
    String,
    List(usize),
    /// Offsets and types.
    Fields(Vec<(usize, usize)>),
    Cases(Cases),
    /// How many there are.
    Flags(u32),
    /// The resource type.
    Own(u32),
    Borrow(u32),
}

pub struct Cases {
    /// Whether the encoding has one byte for the case: those of `option` and `result`.
    pub narrow: bool,
    /// Bytes of the case in memory.
    pub tag: usize,
    /// Where in memory the payload is.
    pub payload: usize,
    pub payloads: Vec<Option<usize>>,
}

/// The program that is put in.
pub fn program() -> &'static Program {
    static PROGRAM: OnceLock<Program> = OnceLock::new();
    PROGRAM.get_or_init(|| Reader(composed::data().leak()).program())
}

impl Program {
    pub fn plain(&self, ty: usize) -> bool {
        matches!(self.types[ty].shape, Shape::Plain)
    }
}

struct Reader(&'static [u8]);

impl Reader {
    fn number(&mut self) -> u32 {
        let (number, rest) = self.0.split_first_chunk().expect("whole data");
        self.0 = rest;
        u32::from_le_bytes(*number)
    }

    fn size(&mut self) -> usize {
        self.number() as usize
    }

    fn flag(&mut self) -> bool {
        self.number() != 0
    }

    fn optional(&mut self) -> Option<usize> {
        self.number().checked_sub(1).map(|index| index as usize)
    }

    fn text(&mut self) -> &'static str {
        let length = self.size();
        let (text, rest) = self.0.split_at(length);
        self.0 = rest;
        std::str::from_utf8(text).expect("whole data")
    }

    fn many<T>(&mut self, mut one: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.number()).map(|_| one(self)).collect()
    }

    fn program(&mut self) -> Program {
        Program {
            sources: self.many(|data| (data.text(), data.text())),
            provided: self.many(Self::text),
            modules: self.many(|data| Module {
                name: data.text(),
                source: data.text(),
                is_package: data.flag(),
            }),
            types: self.many(Self::ty),
            targets: self.many(Self::target),
        }
    }

    fn target(&mut self) -> Target {
        match self.number() {
            0 => Target::Function(Function {
                number: self.number(),
                parameters: self.size(),
                result: self.optional(),
                indirect: self.flag(),
                returns_in_memory: self.flag(),
            }),
            1 => Target::Close(self.number()),
            _ => Target::Refused(self.text()),
        }
    }

    fn ty(&mut self) -> Type {
        Type {
            size: self.size(),
            align: self.size(),
            flat: self.size(),
            shape: match self.number() {
                0 => Shape::Plain,
                1 => Shape::Bool,
                2 => Shape::Char,
                3 => Shape::String,
                4 => Shape::List(self.size()),
                5 => Shape::Fields(self.many(|data| (data.size(), data.size()))),
                6 => Shape::Cases(Cases {
                    narrow: self.flag(),
                    tag: self.size(),
                    payload: self.size(),
                    payloads: self.many(Self::optional),
                }),
                7 => Shape::Flags(self.number()),
                8 => Shape::Own(self.number()),
                _ => Shape::Borrow(self.number()),
            },
        }
    }
}
