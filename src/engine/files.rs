//! `FROM '/path/to/file.parquet'`: files that a query names itself.

use std::fmt::{self, Debug};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::datasource::provider_as_source;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::sql::parser::Statement as Sql;
use datafusion::sql::sqlparser::ast::{Ident, ObjectName, TableAlias, TableFactor, visit_relations};

use crate::engine::guarded::GuardedFiles;
use crate::engine::identity::Identity;
use crate::engine::rights::Rights;
use crate::engine::sight::KeptPlanner;
use crate::engine::work::not_in_the_way;
use crate::error::{Error, Kind, Result};
use crate::storage::{DeltaTable, External, FilesTable, Format, Home, Store, absolute, infer, is_s3};

/// Plans what stands in FROM between single quotes.
pub struct FilePlanner {
    store: Arc<Store>,
    /// Opens files, and plans what is kept.
    kept: Arc<KeptPlanner>,
}

impl FilePlanner {
    pub fn new(store: Arc<Store>, kept: Arc<KeptPlanner>) -> Self {
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
        let state = self.kept.get()?;
        let table = not_in_the_way(|| futures::executor::block_on(files(path, &state)))?;
        let source = provider_as_source(Arc::new(GuardedFiles(table)));
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

/// Whether a statement names files: what columns they have is looked up whenever it runs.
pub fn reads_files(sql: &Sql) -> bool {
    let Sql::Statement(statement) = sql else { return false };
    let quoted = |name: &ObjectName| {
        let part = match name.0.as_slice() {
            [part] => part.as_ident(),
            _ => None,
        };
        part.is_some_and(|part| part.quote_style == Some('\''))
    };
    visit_relations(statement.as_ref(), |name| match quoted(name) {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    })
    .is_break()
}

/// The files at a path, their format told by their names.
async fn files(path: &str, state: &SessionState) -> Result<Arc<dyn TableProvider>> {
    let location = absolute(path)?;
    let mut external = External { locations: vec![location.clone()], ..External::default() };
    let home = Home::of(&external, state)?;
    if DeltaTable::is_at(&home, &location).await? {
        let columns = DeltaTable::infer(&mut external, state).await?;
        return Ok(Arc::new(DeltaTable::new(&external, columns)));
    }
    let format = format_of(&home, &location).await?;
    external.provider = format.name().to_owned();
    let columns = infer(&mut external, format, state).await?;
    Ok(Arc::new(FilesTable::new(Arc::new(external), format, columns)))
}

/// The format by the end of a path; of a folder by the first file in it that has one.
async fn format_of(home: &Home, location: &str) -> Result<Format> {
    if let Some((format, _)) = Format::of_file(location) {
        return Ok(format);
    }
    let found = match home.files(&[location.to_owned()], |name| Format::of_file(name).is_some()).await {
        Err(error) if error.kind == Kind::Io && !is_s3(location) => {
            return Err(error.hint(
                "a table's name is written without quotes, or between double ones; between single quotes is a path",
            ));
        }
        found => found?,
    };
    if let Some((format, _)) = found.iter().find_map(|found| Format::of_file(&found.path.to_string_lossy())) {
        return Ok(format);
    }
    let endings: Vec<String> =
        Format::ALL.iter().flat_map(|(.., endings)| *endings).map(|ending| format!(".{ending}")).collect();
    let hint = format!(
        "names end in {}, compressed text in .gz, .bz2, .xz or .zst too; CREATE EXTERNAL TABLE takes any name",
        endings.join(", ")
    );
    let message = match found.is_empty() && !location.contains(['*', '?', '[']) {
        true => format!("there is no file of a known format in the folder \"{location}\""),
        false => format!("\"{location}\" is of no known format"),
    };
    Err(Error::unsupported(message).hint(hint))
}
