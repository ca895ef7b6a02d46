//! The manual: generated pages equal the lists they are made of, and what the other pages name exists.
//!
//! `UPDATE_DOCS=1 cargo test --release manual` writes the generated pages anew.

use std::fs;
use std::path::{Path, PathBuf};

use cohort::engine::statements::STATEMENTS;
use cohort::engine::{SYSTEM_TABLES, SystemTable};
use cohort::functions::{FUNCTIONS, Function};
use cohort::models::{ALGORITHMS, Algorithm, Opt, Task, common_options};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// First line of every generated page; Markdown does not show it.
const GENERATED: &str = "<!-- Written by tests/manual.rs from the lists in src; UPDATE_DOCS=1 writes it anew. -->\n\n";

#[test]
fn the_page_of_model_types_is_current() {
    check("docs/models.md", &models());
}

#[test]
fn the_page_of_functions_is_current() {
    check("docs/functions.md", &functions());
}

#[test]
fn the_page_of_statements_is_current() {
    check("docs/statements.md", &statements());
}

#[test]
fn the_page_of_system_tables_is_current() {
    check("docs/system-tables.md", &system_tables());
}

/// `src/…` and the like, wherever a page names them: code moves, and prose must move with it.
#[test]
fn every_path_in_the_manual_exists() {
    let missing: Vec<String> = pages()
        .iter()
        .flat_map(|(page, text)| paths(text).map(move |path| (page, path)))
        .filter(|(_, path)| !Path::new(ROOT).join(path).exists())
        .map(|(page, path)| format!("{page}: {path}"))
        .collect();
    assert!(missing.is_empty(), "named in the manual and not there:\n{}", missing.join("\n"));
}

#[test]
fn every_link_leads_somewhere() {
    let mut broken = Vec::new();
    for (page, text) in pages() {
        let here = Path::new(ROOT).join(&page);
        for (label, target) in links(&text) {
            if target.contains("://") {
                continue;
            }
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = if path.is_empty() { here.clone() } else { here.with_file_name("").join(path) };
            let there = fs::read_to_string(&file).unwrap_or_default();
            let found = match (file.exists(), anchor) {
                (exists, "") => exists,
                (_, anchor) => anchors(&there).any(|heading| heading == anchor),
            };
            // [`Session::execute`](../src/engine/session.rs): the file still holds the name.
            let named = last_name(label).is_none_or(|name| file.is_dir() || words(&there).any(|word| word == name));
            if !found || !named {
                broken.push(format!("{page}: [{label}]({target})"));
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere, or to a file without the name:\n{}", broken.join("\n"));
}

/// What a newcomer types first has to be what works.
#[test]
fn the_readme_has_the_two_commands() {
    let readme = fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap_or_default();
    for command in ["cargo run --release -- serve --demo", "cargo test --release"] {
        assert!(readme.lines().any(|line| line.trim() == command), "the README has no line `{command}`");
    }
}

fn check(page: &str, expected: &str) {
    let path = Path::new(ROOT).join(page);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let written = fs::write(&path, expected);
        assert!(written.is_ok(), "could not write {page}: {written:?}");
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    let differs = found.lines().zip(expected.lines()).position(|(found, expected)| found != expected);
    let line = differs.unwrap_or(found.lines().count().min(expected.lines().count()));
    assert!(
        found == expected,
        "{page} is not what the lists say, from line {}:\n  page:  {}\n  lists: {}\nUPDATE_DOCS=1 cargo test --release manual writes it anew",
        line + 1,
        found.lines().nth(line).unwrap_or("(ends)"),
        expected.lines().nth(line).unwrap_or("(ends)"),
    );
}

fn models() -> String {
    let mut page = format!(
        "{GENERATED}# Model types\n\n\
         What `model_type` can be in [CREATE MODEL](statements.md#create-model). Every type also takes the\n\
         [options of every model type](#options-of-every-model-type). The same facts as a table:\n\
         [`ml.model_options`](system-tables.md#mlmodel_options).\n\n\
         | model type | what it is for | answers |\n|---|---|---|\n"
    );
    for algorithm in ALGORITHMS {
        let name = algorithm.name();
        page += &format!("| [{name}](#{name}) | {} | {} |\n", purpose(algorithm.task()), answers(*algorithm));
    }
    for algorithm in ALGORITHMS {
        page += &model(*algorithm);
    }
    page += "\n## Options of every model type\n\n";
    page += &options(common_options());
    page
}

fn model(algorithm: &dyn Algorithm) -> String {
    let mut text = format!("\n## {}\n\n{}\n\n{}", algorithm.name(), algorithm.doc(), sql(algorithm.example()));
    if !algorithm.options().is_empty() {
        text += &format!("\n{}", options(algorithm.options()));
    }
    text
}

fn purpose(task: Task) -> &'static str {
    match task {
        Task::Recommend => "recommendations",
        Task::Classify => "classes and their probability",
        Task::Cluster => "groups found in the data",
        Task::Segment => "named segments by a rule",
    }
}

/// The functions that take such a model.
fn answers(algorithm: &dyn Algorithm) -> String {
    let link = |name: &&str| format!("[{name}](functions.md#{name})");
    algorithm.answers().iter().map(link).collect::<Vec<_>>().join(", ")
}

fn options(options: &[Opt]) -> String {
    let mut text = "| option | accepts | default | meaning |\n|---|---|---|---|\n".to_owned();
    for option in options {
        let aliases: Vec<String> = option.aliases.iter().map(|alias| format!("`{alias}`")).collect();
        let also = if aliases.is_empty() { String::new() } else { format!(", also {}", aliases.join(", ")) };
        let default = option.default.map_or("–".to_owned(), |default| format!("`{default}`"));
        let range = option.range.to_string();
        text += &format!("| `{}`{also} | {} | {default} | {} |\n", option.name, cell(&range), cell(option.doc));
    }
    text
}

fn functions() -> String {
    let mut page = format!(
        "{GENERATED}# Functions\n\n\
         A function that answers with rows stands in FROM, like a table; around it SQL goes on as usual. Each can be\n\
         written with its schema too, as in `ml.predict(…)`. A query as an argument stands in parentheses of its own,\n\
         and a table may be given by its name; options follow by name, with `=>`. A model is named by a text: `'churn'`, `'shop.churn'`, or `'churn@2'` for its\n\
         second version.\n\n\
         | function | what it answers |\n|---|---|\n"
    );
    for function in FUNCTIONS {
        let name = function.name();
        page += &format!("| [{name}](#{name}) | {} |\n", cell(first_sentence(function.doc().summary)));
    }
    for function in FUNCTIONS {
        page += &function_section(*function);
    }
    page
}

fn function_section(function: &dyn Function) -> String {
    let doc = function.doc();
    let mut text = format!("\n## {}\n\n{}\n\n```text\n{}\n```\n", function.name(), doc.summary, doc.syntax.join("\n"));
    for (heading, rows) in [("argument", doc.arguments), ("column", doc.returns)] {
        if !rows.is_empty() {
            text += &format!("\n| {heading} | meaning |\n|---|---|\n");
        }
        for (name, meaning) in rows {
            text += &format!("| `{}` | {} |\n", cell(name), cell(meaning));
        }
    }
    text += &format!("\n{}", sql(doc.example));
    text
}

fn statements() -> String {
    let mut page = format!(
        "{GENERATED}# Statements\n\n\
         What Cohort adds to SQL, or answers itself. Everything else, such as SELECT with joins, windows and CTEs, EXPLAIN,\n\
         CREATE TABLE … AS, CREATE VIEW, CREATE SCHEMA, INSERT and DROP, is the SQL of DataFusion in the dialect of\n\
         PostgreSQL. UPDATE and DELETE are not supported yet.\n\n"
    );
    for statement in STATEMENTS {
        page += &format!("- [{}](#{})\n", statement.name(), anchor(statement.name()));
    }
    for statement in STATEMENTS {
        page += &format!("\n## {}\n\n{}\n\n", statement.name(), statement.doc());
        page += &format!("```text\n{}\n```\n", statement.syntax());
    }
    page
}

fn system_tables() -> String {
    let mut page = format!(
        "{GENERATED}# System tables\n\n\
         The schema `ml` holds what there is to know about models, as tables that any tool can read. They are made anew\n\
         whenever they are read, and nobody can write to them.\n\n\
         | table | what it holds |\n|---|---|\n"
    );
    let heading = |table: &SystemTable| format!("ml.{}", table.name);
    for table in SYSTEM_TABLES {
        page += &format!("| [{0}](#{1}) | {2} |\n", heading(table), anchor(&heading(table)), cell(table.doc));
    }
    for table in SYSTEM_TABLES {
        page += &format!("\n## {}\n\n{}\n\n| column | type |\n|---|---|\n", heading(table), table.doc);
        for (name, data_type) in table.columns() {
            page += &format!("| `{name}` | {data_type} |\n");
        }
    }
    page
}

fn sql(text: &str) -> String {
    format!("```sql\n{};\n```\n", text.trim_end_matches(';'))
}

/// Text inside a table, where | would end the cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn first_sentence(text: &str) -> &str {
    text.find(". ").map_or(text, |end| &text[..=end])
}

/// README.md and the pages of docs/: name and text.
fn pages() -> Vec<(String, String)> {
    let docs = Path::new(ROOT).join("docs");
    let mut files: Vec<PathBuf> =
        fs::read_dir(docs).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    files.push(Path::new(ROOT).join("README.md"));
    files.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    files.sort();
    let name = |path: &Path| path.strip_prefix(ROOT).unwrap_or(path).display().to_string();
    files.iter().map(|path| (name(path), fs::read_to_string(path).unwrap_or_default())).collect()
}

/// Paths of this repository: words that begin with one of its folders.
fn paths(text: &str) -> impl Iterator<Item = &str> {
    let ours = ["src/", "tests/", "docs/", "sql/", "docker/", "benches/", ".ci/"];
    text.split(|c: char| !c.is_ascii_alphanumeric() && !"_-./".contains(c))
        .map(|word| word.trim_start_matches("../").trim_end_matches(['.', '/']))
        .filter(move |word| ours.iter().any(|folder| word.starts_with(folder)))
}

/// `[label](target)` outside of code blocks.
fn links(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut in_code = false;
    text.lines()
        .filter(move |line| {
            in_code ^= line.starts_with("```");
            !in_code
        })
        .flat_map(|line| {
            line.match_indices("](").filter_map(|(middle, _)| {
                let label = &line[line[..middle].rfind('[')? + 1..middle];
                let rest = &line[middle + 2..];
                Some((label, &rest[..rest.find(')')?]))
            })
        })
}

/// `` `Session::execute` `` → `execute`; `None` where the label is no name of code.
fn last_name(label: &str) -> Option<&str> {
    let code = label.strip_prefix('`')?.strip_suffix('`')?;
    let name = code.trim_end_matches("()").rsplit([':', '.', '/']).next()?;
    // A file's own name is checked by its being there.
    (!code.contains('/') && !code.ends_with(".rs")).then_some(name)
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
}

fn anchors(text: &str) -> impl Iterator<Item = String> {
    text.lines().filter_map(|line| line.strip_prefix('#')).map(|line| anchor(line.trim_start_matches('#').trim()))
}

/// A heading as Markdown viewers address it.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}
