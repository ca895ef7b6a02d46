//! The schema `ml`: models, their versions and what is known of them, servers and stored tables, as tables.

use std::fmt::{self, Debug};
use std::sync::Arc;

use async_trait::async_trait;
use chrono::DateTime;
use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::datasource::MemTable;
use datafusion::error::Result as DataFusionResult;
use serde_json::Value;

use crate::engine::Progress;
use crate::engine::activity::{Activity, Job};
use crate::engine::sources::Source;
use crate::error::Result;
use crate::models::{ALGORITHMS, declared_options};
use crate::storage::{
    Access, ForeignServer, ForeignServers, KeptOptions, ModelRow, ModelVersion, Relation, RelationKind, Role, RoleId,
    Store,
};

/// What the tables are made of, at one moment.
pub struct Shown {
    models: Vec<ModelRow>,
    servers: Arc<ForeignServers>,
    access: Arc<Access>,
    /// The stored tables, and where they lie.
    tables: Vec<(Relation, String)>,
    jobs: Vec<Job>,
}

impl Shown {
    pub fn of(store: &Store, activity: &Activity) -> Result<Self> {
        let mut tables = Vec::new();
        for schema in store.schemas()? {
            for relation in store.relations(&schema)? {
                if let RelationKind::Table(table) = relation.kind {
                    let location = store.location(table).display().to_string();
                    tables.push((relation, location));
                }
            }
        }
        Ok(Self {
            models: store.models()?,
            servers: store.foreign_servers(),
            access: store.access(),
            tables,
            jobs: activity.jobs(),
        })
    }
}

/// A table of `ml`: what it shows is made each time it is read.
pub struct SystemTable {
    pub name: &'static str,
    pub doc: &'static str,
    columns: &'static [(&'static str, Cell)],
    lines: fn(&Shown) -> Vec<Line>,
}

/// The type of a column.
#[derive(Clone, Copy)]
enum Cell {
    Text,
    Whole,
    Number,
    Bool,
    Moment,
}

/// One row, as loosely typed as the facts it is made of; [`Cell`] says what each value becomes.
type Line = Vec<Value>;

/// Every system table. The schema provider and the manual read this list.
pub const SYSTEM_TABLES: &[&SystemTable] = &[
    &MODELS,
    &MODEL_VERSIONS,
    &MODEL_OPTIONS,
    &MODEL_FEATURES,
    &MODEL_METRICS,
    &TRAINING_INFO,
    &SERVERS,
    &TABLES,
    &ROLE_LIMITS,
    &JOBS,
];

pub const MODELS: SystemTable = SystemTable {
    name: "models",
    doc: "One row a model: its type, its default version and how that version came about.",
    columns: &[
        ("model_schema", Cell::Text),
        ("model_name", Cell::Text),
        ("model_type", Cell::Text),
        ("status", Cell::Text),
        ("default_version", Cell::Whole),
        ("versions", Cell::Whole),
        ("trained_rows", Cell::Whole),
        ("training_seconds", Cell::Number),
        ("bytes", Cell::Whole),
        ("created", Cell::Moment),
    ],
    lines: |Shown { models, .. }| {
        let line = |model: &ModelRow| {
            let version = model.version(model.default_version);
            let fact = |name: &str| version.map(|version| version.facts[name].clone()).unwrap_or_default();
            vec![
                model.schema.clone().into(),
                model.name.clone().into(),
                model.model_type.clone().into(),
                version.map(status).into(),
                model.default_version.into(),
                model.versions.len().into(),
                fact("n_rows"),
                fact("seconds"),
                version.map(|version| version.bytes).into(),
                version.map(|version| version.created).into(),
            ]
        };
        models.iter().map(line).collect()
    },
};

const MODEL_VERSIONS: SystemTable = SystemTable {
    name: "model_versions",
    doc: "One row a version of a model, with the statement that trained it, the tables it read and how many commits each of \
          them had seen (`public.orders@12`), what reading them took of its seconds, and a hash of what it learned.",
    columns: &[
        ("model_schema", Cell::Text),
        ("model_name", Cell::Text),
        ("version", Cell::Whole),
        ("is_default", Cell::Bool),
        ("status", Cell::Text),
        ("failure", Cell::Text),
        ("statement", Cell::Text),
        ("trained_on", Cell::Text),
        ("seed", Cell::Whole),
        ("trained_rows", Cell::Whole),
        ("held_out_rows", Cell::Whole),
        ("training_seconds", Cell::Number),
        ("reading_seconds", Cell::Number),
        ("bytes", Cell::Whole),
        ("model_hash", Cell::Text),
        ("created", Cell::Moment),
    ],
    lines: |Shown { models, .. }| {
        each_version(models, |model, version| {
            let facts = &version.facts;
            vec![vec![
                Value::from(version.version == model.default_version),
                status(version).into(),
                version.failure.clone().into(),
                facts["statement"].clone(),
                trained_on(facts).into(),
                facts["options"]["seed"].clone(),
                facts["n_rows"].clone(),
                facts["n_eval_rows"].clone(),
                facts["seconds"].clone(),
                facts["reading_seconds"].clone(),
                version.bytes.into(),
                version.hash.clone().into(),
                version.created.into(),
            ]]
        })
    },
};

/// The tables of a training and their versions, as `schema.table@version`.
fn trained_on(facts: &Value) -> Option<String> {
    let sources: Vec<Source> = serde_json::from_value(facts["sources"].clone()).ok()?;
    let named = |source: &Source| format!("{}.{}@{}", source.schema, source.table, source.version);
    Some(sources.iter().map(named).collect::<Vec<_>>().join(", "))
}

const MODEL_OPTIONS: SystemTable = SystemTable {
    name: "model_options",
    doc: "Every option of every model type, with its range and default; for a model's own values see option_value, \
          where model_name is not NULL.",
    columns: &[
        ("model_schema", Cell::Text),
        ("model_name", Cell::Text),
        ("version", Cell::Whole),
        ("model_type", Cell::Text),
        ("option_name", Cell::Text),
        ("option_value", Cell::Text),
        ("accepted", Cell::Text),
        ("default_value", Cell::Text),
        ("description", Cell::Text),
    ],
    lines: |Shown { models, .. }| {
        let mut lines = Vec::new();
        for algorithm in ALGORITHMS {
            for option in declared_options(*algorithm) {
                let declared = |model: [Value; 3], value: Value| {
                    let mut line = model.to_vec();
                    line.extend([
                        algorithm.name().into(),
                        option.name.into(),
                        value,
                        option.range.to_string().into(),
                        option.default.into(),
                        option.doc.into(),
                    ]);
                    line
                };
                lines.push(declared([Value::Null, Value::Null, Value::Null], Value::Null));
                for model in models.iter().filter(|model| model.model_type == algorithm.name()) {
                    for version in &model.versions {
                        let value = &version.facts["options"][option.name];
                        if !value.is_null() {
                            let whose =
                                [model.schema.clone().into(), model.name.clone().into(), version.version.into()];
                            lines.push(declared(whose, text_of(value).into()));
                        }
                    }
                }
            }
        }
        lines
    },
};

const MODEL_FEATURES: SystemTable = SystemTable {
    name: "model_features",
    doc: "One row for each column that a version of a model reads, with the type it had in training and its part.",
    columns: &[
        ("model_schema", Cell::Text),
        ("model_name", Cell::Text),
        ("version", Cell::Whole),
        ("position", Cell::Whole),
        ("feature", Cell::Text),
        ("data_type", Cell::Text),
        ("role", Cell::Text),
    ],
    lines: |Shown { models, .. }| {
        each_version(models, |_, version| {
            let mut inputs: Vec<[Value; 3]> = array(&version.facts["inputs"])
                .map(|input| [input["name"].clone(), input["data_type"].clone(), input["role"].clone()])
                .collect();
            if let Some(label) = version.facts["label"].as_str() {
                inputs.push([label.into(), Value::Null, "label".into()]);
            }
            let positioned = inputs.into_iter().enumerate();
            positioned.map(|(at, input)| [vec![Value::from(at + 1)], input.to_vec()].concat()).collect()
        })
    },
};

const MODEL_METRICS: SystemTable = SystemTable {
    name: "model_metrics",
    doc: "One row for each metric on the rows held out when a version was trained; baselines included.",
    columns: &[
        ("model_schema", Cell::Text),
        ("model_name", Cell::Text),
        ("version", Cell::Whole),
        ("metric", Cell::Text),
        ("value", Cell::Number),
    ],
    lines: |Shown { models, .. }| {
        each_version(models, |_, version| {
            array(&version.facts["evaluation"]).map(|metric| vec![metric[0].clone(), metric[1].clone()]).collect()
        })
    },
};

const TRAINING_INFO: SystemTable = SystemTable {
    name: "training_info",
    doc: "One row for each step of the training loop of a version, with the loss where the algorithm has one.",
    columns: &[
        ("model_schema", Cell::Text),
        ("model_name", Cell::Text),
        ("version", Cell::Whole),
        ("iteration", Cell::Whole),
        ("loss", Cell::Number),
    ],
    lines: |Shown { models, .. }| {
        each_version(models, |_, version| {
            array(&version.facts["steps"]).map(|step| vec![step["iteration"].clone(), step["loss"].clone()]).collect()
        })
    },
};

const TABLES: SystemTable = SystemTable {
    name: "tables",
    doc: "One row a stored table: which version it is at, from which one on it can be read, how large it is, which \
          columns it is partitioned by, and in which folder of the server others find it as a Delta table.",
    columns: &[
        ("table_schema", Cell::Text),
        ("table_name", Cell::Text),
        ("version", Cell::Whole),
        ("readable_from", Cell::Whole),
        ("rows", Cell::Whole),
        ("files", Cell::Whole),
        ("bytes", Cell::Whole),
        ("earlier_bytes", Cell::Whole),
        ("partitioned_by", Cell::Text),
        ("location", Cell::Text),
    ],
    lines: |Shown { tables, .. }| {
        let line = |(table, location): &(Relation, String)| {
            vec![
                table.schema.clone().into(),
                table.name.clone().into(),
                table.version.into(),
                table.readable_from.into(),
                table.rows().into(),
                table.files.len().into(),
                table.bytes().into(),
                table.past.iter().map(|file| file.bytes).sum::<u64>().into(),
                Some(table.rules.partitioned_by.join(", ")).filter(|columns| !columns.is_empty()).into(),
                location.clone().into(),
            ]
        };
        tables.iter().map(line).collect()
    },
};

const SERVERS: SystemTable = SystemTable {
    name: "servers",
    doc: "One row for each way into a foreign server: the role here, the user there, and where the password is, but never \
          the password. A server that has no user yet has one row, without a role.",
    columns: &[
        ("server_name", Cell::Text),
        ("wrapper", Cell::Text),
        ("host", Cell::Text),
        ("port", Cell::Text),
        ("dbname", Cell::Text),
        ("sslmode", Cell::Text),
        ("role_name", Cell::Text),
        ("remote_user", Cell::Text),
        ("password", Cell::Text),
    ],
    lines: |Shown { servers, access, .. }| {
        let line = |server: &ForeignServer, role: Option<&str>, options: &KeptOptions| {
            let of = |name: &str, otherwise: &str| {
                let given = server.options.shown.get(name);
                Value::from(given.map_or_else(|| otherwise.to_owned(), Clone::clone))
            };
            let password = match options.shown.get("password_env") {
                Some(variable) => Some(format!("in the environment: {variable}")),
                None => options.has_secret().then(|| "kept encrypted".to_owned()),
            };
            vec![
                server.name.clone().into(),
                server.wrapper.clone().into(),
                of("host", "localhost"),
                of("port", "5432"),
                server.options.shown.get("dbname").cloned().into(),
                of("sslmode", "prefer"),
                role.into(),
                options.shown.get("user").cloned().or_else(|| role.map(str::to_owned)).into(),
                password.into(),
            ]
        };
        let mut lines = Vec::new();
        for server in servers.all() {
            let before = lines.len();
            for mapping in servers.mappings(server.id) {
                let role = if mapping.role == RoleId::PUBLIC { "public" } else { access.name(mapping.role) };
                lines.push(line(server, Some(role), &mapping.options));
            }
            if lines.len() == before || server.options.shown.contains_key("user") {
                lines.push(line(server, None, &server.options));
            }
        }
        lines
    },
};

/// Lines for every version, each after schema, name and version of its model.
fn each_version(models: &[ModelRow], lines: impl Fn(&ModelRow, &ModelVersion) -> Vec<Line>) -> Vec<Line> {
    let mut all = Vec::new();
    for model in models {
        for version in &model.versions {
            let whose = vec![model.schema.clone().into(), model.name.clone().into(), version.version.into()];
            all.extend(lines(model, version).into_iter().map(|line| [whose.clone(), line].concat()));
        }
    }
    all
}

fn status(version: &ModelVersion) -> String {
    format!("{:?}", version.status).to_uppercase()
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

const JOBS: SystemTable = SystemTable {
    name: "jobs",
    doc: "One row a statement that takes its time in steps, as a training does: who runs it since when, what it is at, and how \
          many steps of it are done. pg_cancel_backend(pid) stops it.",
    columns: &[
        ("pid", Cell::Whole),
        ("role_name", Cell::Text),
        ("started", Cell::Moment),
        ("doing", Cell::Text),
        ("step", Cell::Whole),
        ("steps", Cell::Whole),
    ],
    lines: |Shown { access, jobs, .. }| {
        let line = |job: &Job| {
            let Progress { doing, done, total } = &job.progress;
            let known = (*total > 0).then_some(total);
            let (step, steps) = (known.map(|_| *done), known.copied());
            vec![
                job.pid.into(),
                access.name(job.role).into(),
                job.started.into(),
                doing.as_str().into(),
                step.into(),
                steps.into(),
            ]
        };
        jobs.iter().map(line).collect()
    },
};

const ROLE_LIMITS: SystemTable = SystemTable {
    name: "role_limits",
    doc: "One row a role that may log in: how many sessions it may have, how many of their statements run at once, and the \
          bytes that they may hold. NULL is no limit; superusers have none.",
    columns: &[
        ("role_name", Cell::Text),
        ("connection_limit", Cell::Whole),
        ("statement_limit", Cell::Whole),
        ("memory_limit", Cell::Whole),
    ],
    lines: |Shown { access, .. }| {
        let line = |role: &Role| {
            let Role { name, connection_limit, statement_limit, memory_limit, .. } = role;
            vec![name.as_str().into(), (*connection_limit).into(), (*statement_limit).into(), (*memory_limit).into()]
        };
        access.roles().filter(|role| role.login).map(line).collect()
    },
};

/// A fact as text, without the quotes of JSON.
pub fn text_of(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(text_of).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// Microseconds since 1970 as people read them, UTC.
pub fn moment(microseconds: i64) -> String {
    let moment = DateTime::from_timestamp_micros(microseconds);
    moment.map_or_else(String::new, |moment| moment.format("%Y-%m-%d %H:%M:%S").to_string())
}

impl SystemTable {
    pub fn schema(&self) -> SchemaRef {
        let field = |(name, cell): &(&str, Cell)| Field::new(*name, cell.data_type(), true);
        Arc::new(Schema::new(self.columns.iter().map(field).collect::<Vec<_>>()))
    }

    pub fn rows(&self, shown: &Shown) -> Result<RecordBatch> {
        let lines = (self.lines)(shown);
        let column = |(at, (_, cell)): (usize, &(&str, Cell))| cell.array(lines.iter().map(|line| &line[at]));
        Ok(RecordBatch::try_new(self.schema(), self.columns.iter().enumerate().map(column).collect())?)
    }

    /// (name, SQL type) of its columns, for the manual.
    pub fn columns(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.columns.iter().map(|(name, cell)| (*name, cell.sql_name()))
    }
}

impl Cell {
    fn data_type(self) -> DataType {
        match self {
            Self::Text => DataType::Utf8,
            Self::Whole => DataType::Int64,
            Self::Number => DataType::Float64,
            Self::Bool => DataType::Boolean,
            Self::Moment => DataType::Timestamp(TimeUnit::Microsecond, None),
        }
    }

    fn sql_name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Whole => "bigint",
            Self::Number => "double precision",
            Self::Bool => "boolean",
            Self::Moment => "timestamp",
        }
    }

    fn array<'a>(self, values: impl Iterator<Item = &'a Value>) -> ArrayRef {
        match self {
            Self::Text => Arc::new(values.map(|value| value.as_str().map(str::to_owned)).collect::<StringArray>()),
            Self::Whole => Arc::new(values.map(Value::as_i64).collect::<Int64Array>()),
            Self::Number => Arc::new(values.map(Value::as_f64).collect::<Float64Array>()),
            Self::Bool => Arc::new(values.map(Value::as_bool).collect::<BooleanArray>()),
            Self::Moment => Arc::new(values.map(Value::as_i64).collect::<TimestampMicrosecondArray>()),
        }
    }
}

/// The schema that holds them.
pub struct SystemTables {
    store: Arc<Store>,
    activity: Arc<Activity>,
}

impl SystemTables {
    pub const SCHEMA: &str = "ml";

    pub fn new(store: Arc<Store>, activity: Arc<Activity>) -> Self {
        Self { store, activity }
    }
}

impl Debug for SystemTables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SystemTables")
    }
}

#[async_trait]
impl SchemaProvider for SystemTables {
    fn table_names(&self) -> Vec<String> {
        SYSTEM_TABLES.iter().map(|table| table.name.to_owned()).collect()
    }

    async fn table(&self, name: &str) -> DataFusionResult<Option<Arc<dyn TableProvider>>> {
        let Some(table) = SYSTEM_TABLES.iter().find(|table| table.name == name) else { return Ok(None) };
        let rows = table.rows(&Shown::of(&self.store, &self.activity)?)?;
        Ok(Some(Arc::new(MemTable::try_new(rows.schema(), vec![vec![rows]])?)))
    }

    fn table_exist(&self, name: &str) -> bool {
        SYSTEM_TABLES.iter().any(|table| table.name == name)
    }
}
