//! SQL proves SQL: each file of `tests/slt` runs over the real wire against a data directory of its own.
//!
//! `UPDATE_GOLDENS=1 cargo test --test all goldens` writes the answers into the files; read the difference before you
//! commit it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use sqllogictest::{
    AsyncDB, ColumnType, DBOutput, Runner, default_normalizer, default_validator, strict_column_validator,
};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::server::{TestServer, told};

/// One test a file, so that they run beside each other and fail by name.
macro_rules! goldens {
    ($($name:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                golden(stringify!($name)).await;
            }
        )*

        #[test]
        fn every_file_is_run() {
            let there: BTreeSet<String> = std::fs::read_dir(folder())
                .unwrap()
                .filter_map(|entry| Some(entry.unwrap().file_name().to_str()?.strip_suffix(".slt")?.to_owned()))
                .collect();
            let run: BTreeSet<String> = [$(stringify!($name)),*].map(str::to_owned).into();
            assert_eq!(there, run);
        }
    };
}

goldens!(
    alter_model,
    alter_role,
    alter_table,
    bad_input,
    bpr,
    catalog,
    centroids,
    comment,
    copy,
    create_model,
    create_role,
    cross_validate,
    cursor,
    default_privileges,
    delete,
    describe_data,
    describe_model,
    drop_duplicates,
    drop_model,
    drop_role,
    ease,
    embed,
    evaluate,
    evaluate_ranking,
    explain,
    explain_recommendation,
    external_table,
    factors,
    foreign_server,
    grant,
    hybrid_mf,
    impute,
    insert,
    item_knn,
    json,
    keys,
    kmeans,
    lateral,
    limits,
    logistic_reg,
    lookalike,
    matrix_factorization,
    merge,
    model_rights,
    outliers,
    owner,
    partitions,
    policy,
    popularity,
    postgres_sql,
    predict,
    prepare,
    recommend,
    recommend_users,
    refresh_model,
    rename,
    rfm,
    role_limits,
    segment,
    set_role,
    settings,
    show_models,
    similar_items,
    similar_users,
    system_tables,
    table_versions,
    tables,
    temporary,
    transactions,
    trial_info,
    truncate,
    unnest,
    update,
    weights,
    winsorize,
);

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slt")
}

/// Runs the file, or writes it anew.
async fn golden(name: &str) {
    let server = TestServer::start().await;
    let mut runner = Runner::new(|| async { Ok(Wire { client: server.connect().await.client }) });
    runner.with_column_validator(strict_column_validator);
    let file = folder().join(format!("{name}.slt"));
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        let written =
            runner.update_test_file(&file, "  ", default_validator, default_normalizer, strict_column_validator);
        written.await.unwrap();
    } else {
        // One wrong answer is no reason not to hear the others.
        let mut wrong = Vec::new();
        for record in sqllogictest::parse_file(&file).unwrap() {
            if let Err(error) = runner.run_async(record).await {
                wrong.push(error.display(false).to_string());
            }
        }
        assert!(wrong.is_empty(), "{} wrong answers\n\n{}", wrong.len(), wrong.join("\n"));
    }
    runner.shutdown_async().await;
}

/// A connection as sqllogictest wants it. Results are the text that psql would show.
struct Wire {
    client: Client,
}

/// A refusal: `SQLSTATE: message` and, on the next line, the hint.
#[derive(Debug)]
struct Refusal(String);

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}

/// `I` whole number, `R` any other number, `T` text, `B` boolean, `P` point in time, `A` array, `?` anything else.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Letter(char);

impl ColumnType for Letter {
    fn from_char(letter: char) -> Option<Self> {
        Some(Self(letter))
    }

    fn to_char(&self) -> char {
        self.0
    }
}

impl From<&Type> for Letter {
    fn from(of: &Type) -> Self {
        Self(match *of {
            Type::INT2 | Type::INT4 | Type::INT8 => 'I',
            Type::FLOAT4 | Type::FLOAT8 | Type::NUMERIC => 'R',
            Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME => 'T',
            Type::BOOL => 'B',
            Type::TIMESTAMP | Type::TIMESTAMPTZ | Type::DATE | Type::TIME => 'P',
            _ if matches!(of.kind(), tokio_postgres::types::Kind::Array(_)) => 'A',
            _ => '?',
        })
    }
}

#[async_trait]
impl AsyncDB for Wire {
    type Error = Refusal;
    type ColumnType = Letter;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<Letter>, Refusal> {
        let refused = |error: tokio_postgres::Error| Refusal(told(&error));
        let messages = self.client.simple_query(sql).await.map_err(refused)?;
        let (mut has_rows, mut rows, mut count) = (false, Vec::new(), 0);
        for message in messages {
            match message {
                SimpleQueryMessage::RowDescription(_) => has_rows = true,
                SimpleQueryMessage::Row(row) => {
                    let cell = |at| match row.get(at) {
                        None => "NULL".to_owned(),
                        Some("") => "(empty)".to_owned(),
                        Some(text) => text.replace('\n', " "),
                    };
                    rows.push((0..row.len()).map(cell).collect());
                }
                SimpleQueryMessage::CommandComplete(affected) => count = affected,
                _ => {}
            }
        }
        if !has_rows {
            return Ok(DBOutput::StatementComplete(count));
        }
        // The types come from the other protocol, which must know the same columns.
        let prepared = self.client.prepare(sql).await.map_err(refused)?;
        let types = prepared.columns().iter().map(|column| Letter::from(column.type_())).collect();
        Ok(DBOutput::Rows { types, rows })
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &str {
        "cohort"
    }

    fn error_sql_state(error: &Refusal) -> Option<String> {
        error.0.split(':').next().map(str::to_owned)
    }
}
