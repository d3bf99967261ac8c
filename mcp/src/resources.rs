//! Files of workspaces as resources.

use std::sync::Arc;

use agentkernel::{ErrorKind, Files};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rmcp::model::{
    ErrorData, ListResourcesResult, ReadResourceResult, Resource, ResourceContents, ResourceTemplate,
};

use crate::refusal::{Refusal, blocking};
use crate::server::Shared;
use crate::sessions::{DEFAULT, Place, Table};
use crate::uri;

/// What a client sees of files.
pub(crate) struct Resources<'a> {
    pub shared: &'a Arc<Shared>,
    pub table: &'a Table,
    /// One of the client's calls.
    pub call: Place,
}

impl Resources<'_> {
    pub fn templates() -> Vec<ResourceTemplate> {
        vec![
            ResourceTemplate::new("workspace:///{+path}", "workspace file")
                .with_description("A file that the default session has below /workspace."),
            ResourceTemplate::new("workspace://{session}/{+path}", "workspace file of a session")
                .with_description("A file that another session has below /workspace."),
        ]
    }

    /// Files in the order of their addresses, those after the one that the cursor names.
    pub async fn list(self, cursor: Option<String>) -> Result<ListResourcesResult, ErrorData> {
        let after = cursor.as_deref().map(uri::parse).transpose();
        let after =
            after.map_err(|_| ErrorData::invalid_params("the cursor was not given by this server", None))?;
        let places = self.places();
        let most = self.shared.limits.listed;
        let listed = self.look(move || {
            let (mut resources, mut next) = (Vec::new(), None);
            for (session, files) in places {
                let from = match &after {
                    Some((at, _)) if session < *at => continue,
                    Some((at, path)) if session == *at => Some(path.as_str()),
                    _ => None,
                };
                let (found, has_more) = files.list(from, most - resources.len())?;
                for file in found {
                    let address = uri::of(&session, &file.path);
                    let mut resource =
                        Resource::new(address.clone(), file.path.clone()).with_size(file.bytes);
                    if let Some(kind) = kind(&file.path) {
                        resource = resource.with_mime_type(kind);
                    }
                    resources.push(resource);
                    next = Some(address);
                }
                if has_more || resources.len() >= most {
                    let mut result = ListResourcesResult::with_all_items(resources);
                    result.next_cursor = next;
                    return Ok(result);
                }
            }
            Ok(ListResourcesResult::with_all_items(resources))
        });
        listed.await?.map_err(|error: agentkernel::Error| internal(error.into()))
    }

    /// The content of a file.
    pub async fn read(self, address: &str) -> Result<ReadResourceResult, ErrorData> {
        let absent = |refusal: Refusal| ErrorData::resource_not_found(refusal.text(), None);
        let (session, path) = uri::parse(address).map_err(absent)?;
        let files = self.files(&session).map_err(absent)?;
        let most = self.shared.limits.resource_bytes;
        let read = {
            let path = path.clone();
            self.look(move || files.read(&path, most)).await?
        };
        let bytes = read.map_err(|error| match error.kind() {
            ErrorKind::System => internal(error.into()),
            _ => absent(error.into()),
        })?;
        let contents = match String::from_utf8(bytes) {
            Ok(text) => {
                ResourceContents::text(text, address).with_mime_type(kind(&path).unwrap_or("text/plain"))
            }
            Err(error) => ResourceContents::blob(STANDARD.encode(error.as_bytes()), address)
                .with_mime_type(kind(&path).unwrap_or("application/octet-stream")),
        };
        Ok(ReadResourceResult::new(vec![contents]))
    }

    /// Looks at files where that holds up nobody, and at so many at the same time as all clients together may. The work
    /// has its places until it is done, whether anybody still waits for it or not.
    async fn look<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ErrorData> {
        let place = Arc::clone(&self.shared.looks).acquire_owned().await;
        let place = place.map_err(|error| internal(Refusal::new(error.to_string())))?;
        let places = (self.call, place);
        let done = blocking(move || {
            let done = work();
            drop(places);
            done
        });
        done.await.map_err(internal)
    }

    /// Whose files are listed, by the names in their addresses. Where all sessions have the same directory it is
    /// listed once.
    fn places(&self) -> Vec<(String, Files)> {
        if let Some(files) = &self.shared.common_files {
            return vec![(String::new(), files.clone())];
        }
        let name = |name: &str| if name == DEFAULT { String::new() } else { name.to_owned() };
        let slots = self.table.slots();
        let mut places: Vec<_> =
            slots.iter().filter_map(|slot| Some((name(slot.name()), slot.files()?))).collect();
        places.sort_by(|(one, _), (other, _)| one.cmp(other));
        places
    }

    fn files(&self, session: &str) -> Result<Files, Refusal> {
        if session.is_empty()
            && let Some(files) = &self.shared.common_files
        {
            return Ok(files.clone());
        }
        let name = if session.is_empty() { DEFAULT } else { session };
        let slot = self.table.slots().into_iter().find(|slot| slot.name() == name);
        slot.and_then(|slot| slot.files()).ok_or_else(|| {
            Refusal::new("the session has no files yet, or there is no such session")
                .hint("run something in it first with `execute`")
        })
    }
}

pub(crate) fn internal(refusal: Refusal) -> ErrorData {
    ErrorData::internal_error(refusal.text(), None)
}

/// What a file is, by its name; clients show it accordingly.
fn kind(path: &str) -> Option<&'static str> {
    let (_, extension) = path.rsplit_once('.')?;
    Some(match extension.to_ascii_lowercase().as_str() {
        "css" => "text/css",
        "csv" => "text/csv",
        "gif" => "image/gif",
        "htm" | "html" => "text/html",
        "jpeg" | "jpg" => "image/jpeg",
        "js" => "text/javascript",
        "json" => "application/json",
        "md" => "text/markdown",
        "pdf" => "application/pdf",
        "png" => "image/png",
        "py" => "text/x-python",
        "svg" => "image/svg+xml",
        "txt" => "text/plain",
        "webp" => "image/webp",
        "xml" => "application/xml",
        "zip" => "application/zip",
        _ => return None,
    })
}
