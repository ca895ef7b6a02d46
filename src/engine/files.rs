//! `FROM '/path/to/file.parquet'`: files that a query names itself.

use std::fmt::{self, Debug};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use datafusion::datasource::provider_as_source;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::sql::sqlparser::ast::{Ident, TableAlias, TableFactor};

use crate::engine::guarded::GuardedFiles;
use crate::engine::identity::Identity;
use crate::engine::rights::Rights;
use crate::engine::work::not_in_the_way;
use crate::error::{Error, Result};
use crate::storage::{External, FilesTable, Format, Store, absolute, infer};

/// Plans what stands in FROM between single quotes.
pub struct FilePlanner {
    store: Arc<Store>,
    /// Opens files, and plans what is kept.
    kept: Arc<OnceLock<SessionState>>,
}

impl FilePlanner {
    pub fn new(store: Arc<Store>, kept: Arc<OnceLock<SessionState>>) -> Self {
        Self { store, kept }
    }
}

impl Debug for FilePlanner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FilePlanner")
    }
}

impl RelationPlanner for FilePlanner {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> DataFusionResult<RelationPlanning> {
        let TableFactor::Table { name, alias, args: None, .. } = &relation else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let [part] = name.0.as_slice() else { return Ok(RelationPlanning::Original(Box::new(relation))) };
        let Some(Ident { value: path, quote_style: Some('\''), .. }) = part.as_ident() else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        // Refused before a file is looked at. What is kept is planned for nobody, and checked as its owner's.
        if let Some(identity) = context.context_provider().options().extensions.get::<Identity>() {
            Rights::of(&self.store, &self.kept, identity.current_role)?.must_read_files()?;
        }
        let state = self.kept.get().ok_or_else(|| Error::internal("a file was read before the start"))?;
        let table = not_in_the_way(|| futures::executor::block_on(files(path, state)))?;
        let source = provider_as_source(Arc::new(GuardedFiles(Arc::new(table))));
        // As a table of the file's name would be called.
        let stem = Path::new(path).file_stem().map_or_else(|| path.clone(), |stem| stem.to_string_lossy().into_owned());
        let stem = stem.split('.').next().unwrap_or_default().to_owned();
        let alias = alias.clone().unwrap_or_else(|| TableAlias {
            explicit: true,
            name: Ident::with_quote('"', if stem.is_empty() { "files" } else { &stem }),
            columns: Vec::new(),
            at: None,
        });
        let scan = LogicalPlanBuilder::scan("files", source, None)?.build()?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(scan, Some(alias)))))
    }
}

/// The files at a path, their format told by their names.
async fn files(path: &str, state: &SessionState) -> Result<FilesTable> {
    let location = absolute(path)?;
    let format = format_of(&location)?;
    let mut external = External {
        provider: format.name().to_owned(),
        locations: vec![location],
        partitions: Vec::new(),
        options: Default::default(),
        foreign: None,
        declared: false,
    };
    let columns = infer(&mut external, format, state).await?;
    Ok(FilesTable::new(Arc::new(external), format, columns))
}

/// The format by the end of a path; of a folder by the first file in it that has one.
fn format_of(location: &str) -> Result<Format> {
    if let Some((format, _)) = Format::of_file(location) {
        return Ok(format);
    }
    let mut folders = vec![Path::new(location).to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        let mut entries: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        entries.sort();
        if let Some((format, _)) =
            entries.iter().filter_map(|path| path.file_name()).find_map(|name| Format::of_file(&name.to_string_lossy()))
        {
            return Ok(format);
        }
        folders.extend(entries.into_iter().rev().filter(|path| path.is_dir()));
    }
    let endings: Vec<String> =
        Format::ALL.iter().flat_map(|(.., endings)| *endings).map(|ending| format!(".{ending}")).collect();
    let hint = format!(
        "names end in {}, compressed text in .gz, .bz2, .xz or .zst too; CREATE EXTERNAL TABLE takes any name",
        endings.join(", ")
    );
    match Path::new(location).exists() || location.contains(['*', '?', '[']) {
        true => Err(Error::unsupported(format!("\"{location}\" is of no known format")).hint(hint)),
        false => Err(Error::new(crate::error::Kind::Io, format!("\"{location}\" does not exist"))
            .hint("a table's name is written without quotes, or between double ones; between single quotes is a path")),
    }
}
