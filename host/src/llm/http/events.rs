//! Server-sent events: the data of each, as it arrives.

/// Reads a stream of server-sent events. Only their data matters here: the providers name the kind of an
/// event in its data as well.
#[derive(Default)]
pub(super) struct Events {
    /// The beginning of a line whose end has not come.
    line: Vec<u8>,
    /// The data of an event whose end has not come.
    data: String,
}

impl Events {
    /// Takes what came, and calls `on_data` with the data of each event that it completes.
    pub fn feed<E>(
        &mut self,
        mut came: &[u8],
        mut on_data: impl FnMut(&str) -> Result<(), E>,
    ) -> Result<(), E> {
        while let Some(end) = came.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = came.split_at(end);
            came = &rest[1..];
            match self.line.is_empty() {
                true => self.take(line, &mut on_data)?,
                false => {
                    let mut whole = std::mem::take(&mut self.line);
                    whole.extend_from_slice(line);
                    self.take(&whole, &mut on_data)?;
                }
            }
        }
        self.line.extend_from_slice(came);
        Ok(())
    }

    /// The end of the stream: an event that lacks only the empty line after it counts.
    pub fn finish<E>(mut self, mut on_data: impl FnMut(&str) -> Result<(), E>) -> Result<(), E> {
        let line = std::mem::take(&mut self.line);
        self.take(&line, &mut on_data)?;
        self.take(b"", &mut on_data)
    }

    fn take<E>(&mut self, line: &[u8], on_data: &mut impl FnMut(&str) -> Result<(), E>) -> Result<(), E> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            let data = std::mem::take(&mut self.data);
            return if data.is_empty() { Ok(()) } else { on_data(&data) };
        }
        if let Some(data) = line.strip_prefix(b"data:") {
            let data = data.strip_prefix(b" ").unwrap_or(data);
            if !self.data.is_empty() {
                self.data.push('\n');
            }
            self.data.push_str(&String::from_utf8_lossy(data));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_the_same_however_they_are_cut() {
        let text = "\u{feff}: a comment\nevent: x\r\ndata: {\"a\":\"\u{e9}\u{1f600}\"}\r\n\r\n\n\ndata:two\ndata: lines\nid: 7\n\n\
                    data: [DONE]";
        for size in 1..=text.len() {
            let mut events = Events::default();
            let mut seen = Vec::new();
            let mut note = |data: &str| -> Result<(), ()> {
                seen.push(data.to_owned());
                Ok(())
            };
            for chunk in text.as_bytes().chunks(size) {
                events.feed(chunk, &mut note).unwrap();
            }
            events.finish(&mut note).unwrap();
            assert_eq!(seen, ["{\"a\":\"\u{e9}\u{1f600}\"}", "two\nlines", "[DONE]"], "{size}");
        }
    }
}
