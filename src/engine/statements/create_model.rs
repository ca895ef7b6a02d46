//! `CREATE MODEL`: a query's rows in, a model with a name and a version out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use datafusion::arrow::array::Array;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::sql::parser::Statement as Sql;
use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;
use futures::StreamExt;

use crate::engine::fitted::must_get_model;
use crate::engine::rewrite::rewrite_query;
use crate::engine::sources::{Source, sources};
use crate::engine::statement::{self, Own, at_words, check_new_name, folded, model_name, syntax, take_words};
use crate::engine::work::{not_in_the_way, reserve};
use crate::engine::{Answer, Run, Session, definitions, parameters, temporary};
use crate::error::{Error, Kind, Result};
use crate::frame::Artefact;
use crate::models::{
    Algorithm, FitContext, Intake, ModelName, Options, Range, SEARCH_OPTIONS, Search, Step, Trained, Value, algorithm,
    declared_options, train,
};
use crate::storage::{IfExists, NewModel, RoleId};

pub struct Grammar;

/// A parsed `CREATE MODEL`.
#[derive(Debug, Clone)]
pub(in crate::engine) struct CreateModel {
    name: ModelName,
    exists: IfExists,
    options: Vec<(String, Given)>,
    pub query: Box<ast::Query>,
    /// Where its tables are found, if not where the session finds them.
    default_schema: Option<String>,
}

/// The value of an option, or the parameter that brings it.
#[derive(Debug, Clone)]
enum Given {
    Value(Value),
    Parameter(String),
}

impl statement::Grammar for Grammar {
    fn name(&self) -> &'static str {
        "CREATE MODEL"
    }

    fn doc(&self) -> &'static str {
        "Trains a model on the rows of a query and keeps it under a name. Training can be cancelled, and then leaves \
         nothing behind; its progress and summary come as notices. With OR REPLACE an existing model gets a new \
         version, which becomes its default; older versions stay, as name@1, name@2, … Unknown options are refused."
    }

    fn syntax(&self) -> &'static str {
        "CREATE [OR REPLACE] MODEL [IF NOT EXISTS] [schema.]name\n\
         OPTIONS (model_type = '…' [, option = value …])\n\
         AS query"
    }

    fn parse(&self, parser: &mut Parser) -> Result<Option<Arc<dyn Own>>> {
        Ok(CreateModel::parse(parser)?.map(|statement| Arc::new(statement) as Arc<dyn Own>))
    }
}

impl CreateModel {
    /// The statement that a version of a model keeps of its training.
    pub fn stored(text: &str) -> Result<Self> {
        Self::parse(&mut statement::parser(text)?.parser)?
            .ok_or_else(|| Error::corrupt("the statement that trained the model is damaged"))
    }

    fn parse(parser: &mut Parser) -> Result<Option<Self>> {
        if !at_words(parser, &["CREATE", "MODEL"]) && !at_words(parser, &["CREATE", "OR", "REPLACE", "MODEL"]) {
            return Ok(None);
        }
        parser.next_token();
        let replace = take_words(parser, &["OR", "REPLACE"]);
        parser.next_token();
        let keep = take_words(parser, &["IF", "NOT", "EXISTS"]);
        let exists = match (replace, keep) {
            (true, true) => {
                return Err(Error::new(Kind::Syntax, "OR REPLACE and IF NOT EXISTS exclude each other"));
            }
            (true, false) => IfExists::Replace,
            (false, true) => IfExists::Keep,
            (false, false) => IfExists::Error,
        };
        let name = model_name(parser)?;
        if at_words(parser, &["TRANSFORM"]) {
            return Err(Error::unsupported("TRANSFORM is not supported yet").hint(
                "compute the columns in the query; scaling and categories are learned and stored with the model",
            ));
        }
        if !take_words(parser, &["OPTIONS"]) && !take_words(parser, &["WITH"]) {
            return parser.expected("OPTIONS (model_type = '…')", parser.peek_token()).map_err(syntax);
        }
        let options = options(parser)?;
        parser.expect_keyword(Keyword::AS).map_err(syntax)?;
        let mut query = parser.parse_query().map_err(syntax)?;
        rewrite_query(&mut query);
        Ok(Some(Self { name, exists, options, query, default_schema: None }))
    }
}

/// `(key = value, …)`; a value is a literal, or an array of texts in either notation.
fn options(parser: &mut Parser) -> Result<Vec<(String, Given)>> {
    parser.expect_token(&Token::LParen).map_err(syntax)?;
    let mut options = Vec::new();
    while !parser.consume_token(&Token::RParen) {
        let key = folded(&parser.parse_identifier().map_err(syntax)?);
        parser.expect_token(&Token::Eq).map_err(syntax)?;
        let given = match parser.peek_token().token {
            Token::Placeholder(id) => {
                parser.next_token();
                parameters::number(&id)?;
                Given::Parameter(id)
            }
            _ => Given::Value(value(parser)?),
        };
        options.push((key, given));
        if !parser.consume_token(&Token::Comma) && parser.peek_token() != Token::RParen {
            return parser.expected(", or )", parser.peek_token()).map_err(syntax);
        }
    }
    Ok(options)
}

fn value(parser: &mut Parser) -> Result<Value> {
    let bracketed = take_words(parser, &["ARRAY"]) || parser.peek_token() == Token::LBracket;
    if bracketed {
        parser.expect_token(&Token::LBracket).map_err(syntax)?;
        let mut texts = Vec::new();
        while !parser.consume_token(&Token::RBracket) {
            texts.push(value(parser)?.to_string());
            if !parser.consume_token(&Token::Comma) && parser.peek_token() != Token::RBracket {
                return parser.expected(", or ]", parser.peek_token()).map_err(syntax);
            }
        }
        return Ok(Value::Texts(texts));
    }
    let negative = parser.consume_token(&Token::Minus);
    let token = parser.next_token();
    match token.token {
        Token::Number(text, _) => {
            let text = if negative { format!("-{text}") } else { text };
            let whole = text.parse().map(Value::Whole);
            whole
                .or_else(|_| text.parse().map(Value::Number))
                .map_err(|_| Error::invalid(format!("{text} is not a number")))
        }
        Token::SingleQuotedString(text) if !negative => Ok(Value::Text(text)),
        Token::Word(word) if !negative && parser.peek_token() == Token::LParen => search(parser, &word.value),
        Token::Word(word) if !negative => match word.value.to_lowercase().as_str() {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            // BigQuery users write AUTO_SPLIT and the like without quotes.
            _ => Ok(Value::Text(word.value)),
        },
        _ => parser.expected("a value", token).map_err(syntax),
    }
}

/// The arguments of `hparam_range(low, high)` or `hparam_candidates(ARRAY[…])`: what a search is to try.
fn search(parser: &mut Parser, function: &str) -> Result<Value> {
    let function = function.to_lowercase();
    parser.expect_token(&Token::LParen).map_err(syntax)?;
    let search = match function.as_str() {
        "hparam_range" => {
            let low = bound(parser)?;
            parser.expect_token(&Token::Comma).map_err(syntax)?;
            Search::Range { low, high: bound(parser)? }
        }
        "hparam_candidates" => {
            let _ = take_words(parser, &["ARRAY"]);
            parser.expect_token(&Token::LBracket).map_err(syntax)?;
            let mut candidates = Vec::new();
            while !parser.consume_token(&Token::RBracket) {
                candidates.push(value(parser)?);
                if !parser.consume_token(&Token::Comma) && parser.peek_token() != Token::RBracket {
                    return parser.expected(", or ]", parser.peek_token()).map_err(syntax);
                }
            }
            Search::Candidates(candidates)
        }
        other => {
            return Err(Error::invalid(format!("{other}() is no value of an option"))
                .suggest(other, ["hparam_range", "hparam_candidates"]));
        }
    };
    parser.expect_token(&Token::RParen).map_err(syntax)?;
    Ok(Value::Search(search))
}

fn bound(parser: &mut Parser) -> Result<f64> {
    match value(parser)? {
        Value::Whole(bound) => Ok(bound as f64),
        Value::Number(bound) => Ok(bound),
        other => Err(Error::invalid(format!("hparam_range wants two numbers, not {other}"))),
    }
}

/// The value of a parameter as an option's value.
fn option_value(value: &ScalarValue) -> Result<Value> {
    Ok(match value {
        value if value.is_null() => return Err(Error::invalid("an option must not be NULL")),
        ScalarValue::Boolean(Some(truth)) => Value::Bool(*truth),
        ScalarValue::Int64(Some(whole)) => Value::Whole(*whole),
        ScalarValue::Int32(Some(whole)) => Value::Whole(i64::from(*whole)),
        ScalarValue::Int16(Some(whole)) => Value::Whole(i64::from(*whole)),
        ScalarValue::Float64(Some(number)) => Value::Number(*number),
        ScalarValue::List(lists) => {
            let items = lists.value(0);
            let text = |at| parameters::text_of(&ScalarValue::try_from_array(&items, at)?);
            Value::Texts((0..items.len()).map(text).collect::<Result<_>>()?)
        }
        other => Value::Text(parameters::text_of(other)?),
    })
}

#[async_trait]
impl Own for CreateModel {
    async fn parameters(&self, session: &Session, declared: &[Option<DataType>]) -> Result<Vec<DataType>> {
        let mut wanted = parameters::count(&*self.query)?;
        let in_query = wanted;
        let mut found = declared.to_vec();
        for (id, of) in self.option_parameters() {
            let at = parameters::number(&id)?;
            wanted = wanted.max(at);
            found.resize(found.len().max(at), None);
            if let Some(slot) = found.get_mut(at - 1) {
                *slot = slot.take().or(Some(of));
            }
        }
        let mut types = Vec::new();
        if in_query > 0 {
            let query = Sql::Statement(Box::new(ast::Statement::Query(self.query.clone())));
            let state = session.context.state();
            let planning = async move { Ok(parameters::plan(&state, query, &found).await?.1) };
            types = session.on_quick_threads(&Run::new().0, planning).await?;
        } else {
            types.extend(found.into_iter().map(|of| of.unwrap_or(DataType::Utf8)));
        }
        types.resize(types.len().max(wanted), DataType::Utf8);
        Ok(types)
    }

    fn bind(&self, values: &[ScalarValue]) -> Result<Option<Arc<dyn Own>>> {
        if values.is_empty() {
            return Ok(None);
        }
        let mut bound = self.clone();
        parameters::fill(&mut *bound.query, values)?;
        for (_, given) in &mut bound.options {
            if let Given::Parameter(id) = given {
                *given = Given::Value(option_value(parameters::value_of(id, values)?)?);
            }
        }
        Ok(Some(Arc::new(bound)))
    }

    async fn run(&self, session: &Session, run: &Run) -> Result<Answer> {
        let (_, options) = self.checked()?;
        self.check_name(session)?;
        let there = session.store().model(&self.name.schema, &self.name.name)?;
        if self.exists == IfExists::Keep && there.is_some() {
            run.notice(format!("model \"{}\" already exists, skipping", self.name));
            return Ok(Answer::Done("CREATE MODEL".to_owned()));
        }
        if let Some(model) = &there {
            session.rights()?.must_own_model(model)?;
        }
        let before = match there {
            Some(model) if options.truth("warm_start") => Some(model.default_version),
            _ => None,
        };
        self.train(session, run, before).await?;
        session.audit("CREATE MODEL", &self.name.to_string());
        Ok(Answer::Done("CREATE MODEL".to_owned()))
    }
}

impl CreateModel {
    /// The statement of an earlier version again, for a new version of the model under its present name.
    pub(super) fn again(facts: &serde_json::Value, name: ModelName) -> Result<Self> {
        let text = facts["statement"].as_str().ok_or_else(|| Error::corrupt("the model's statement is not kept"))?;
        let default_schema = facts["default_schema"].as_str().map(str::to_owned);
        let again = Self { name, exists: IfExists::Replace, default_schema, ..Self::stored(text)? };
        Ok(again.settled(&serde_json::from_value::<Option<Options>>(facts["chosen"].clone())?.unwrap_or_default()))
    }

    /// With what a search found in place of the search.
    fn settled(mut self, chosen: &Options) -> Self {
        let is_search = |given: &Given| matches!(given, Given::Value(Value::Search(_)));
        let model_type = self.options.iter().find(|(key, _)| key == "model_type");
        let Some((_, Given::Value(model_type))) = model_type.filter(|_| self.options.iter().any(|o| is_search(&o.1)))
        else {
            return self;
        };
        let Ok(algorithm) = algorithm(&model_type.to_string()) else { return self };
        let declared =
            |key: &str| declared_options(algorithm).find(|option| option.is_called(key)).map(|option| option.name);
        for (key, given) in self.options.iter_mut().filter(|(_, given)| is_search(given)) {
            let found = declared(key).and_then(|name| chosen.iter().find(|(chosen, _)| *chosen == name));
            if let Some((_, value)) = found {
                *given = Given::Value(value.clone());
            }
        }
        self.options.retain(|(key, _)| declared(key).is_none_or(|name| !SEARCH_OPTIONS.contains(&name)));
        self
    }

    fn default_schema(&self, session: &Session) -> String {
        let of_session = || session.context.state().config_options().catalog.default_schema.clone();
        self.default_schema.clone().unwrap_or_else(of_session)
    }

    /// Reads, trains and commits a version. `before` is an earlier version to start from.
    pub(super) async fn train(&self, session: &Session, run: &Run, before: Option<u32>) -> Result<()> {
        session.may_write("CREATE MODEL")?;
        let started = Instant::now();
        let (algorithm, options) = self.checked()?;
        let before = before.map(|version| self.artefact(session, algorithm, version)).transpose()?.flatten();
        // For the training as well as for its query.
        let _turn = session.turn(run).await?;
        run.begin(format!("reading the rows for model {}", self.name));
        let read = self.read(session, algorithm, &options, run).await?;
        let reading = started.elapsed();
        run.begin(format!("training {} for model {}", algorithm.name(), self.name));
        run.notice(format!(
            "read {} rows in {:.1} s; training {}",
            read.n_rows,
            reading.as_secs_f64(),
            algorithm.name()
        ));
        let (trained, artefact) = fit(algorithm, read.intake, options, before, read.reserved, run).await?;
        let took = Took { reading, all: started.elapsed() };
        // From here on nothing waits: the model is either committed whole, or was cancelled before.
        if run.cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
        let version = not_in_the_way(|| self.commit(session, &trained, &artefact, &read.sources, took))?;
        run.notice(summary(&self.name, version, &trained, took.all));
        Ok(())
    }

    /// An earlier version as data; `None` where it is of another model type and no help.
    fn artefact(&self, session: &Session, algorithm: &dyn Algorithm, version: u32) -> Result<Option<Artefact>> {
        let (store, ModelName { schema, name, .. }) = (&session.store(), &self.name);
        let model = must_get_model(store, &self.name)?;
        if model.version(version).is_none_or(|version| version.model_type != algorithm.name()) {
            return Ok(None);
        }
        store.read_artefact(schema, name, version).map(Some)
    }

    fn checked(&self) -> Result<(&'static dyn Algorithm, Options)> {
        let value = |(key, given): &(String, Given)| match given {
            Given::Value(value) => Ok((key.clone(), value.clone())),
            Given::Parameter(id) => Err(Error::new(Kind::UnknownParameter, format!("there is no parameter {id}"))),
        };
        let options = self.options.iter().map(value).collect::<Result<Vec<_>>>()?;
        let (types, given): (Vec<_>, Vec<_>) = options.into_iter().partition(|(key, _)| key == "model_type");
        let model_type = match types.as_slice() {
            [(_, model_type)] => model_type.to_string(),
            [] => {
                return Err(Error::invalid("the option model_type is missing")
                    .hint("for example OPTIONS (model_type = 'kmeans'); SELECT * FROM ml.model_options lists all"));
            }
            _ => return Err(Error::invalid("option \"model_type\" is given twice")),
        };
        let algorithm = algorithm(&model_type)?;
        Ok((algorithm, Options::check(algorithm.name(), declared_options(algorithm), given)?))
    }

    /// The parameters among the options, each with the type that its option wants.
    fn option_parameters(&self) -> Vec<(String, DataType)> {
        let given = |wanted: &str| self.options.iter().find(|(key, _)| key == wanted).map(|(_, given)| given);
        let algorithm = match given("model_type") {
            Some(Given::Value(name)) => algorithm(&name.to_string()).ok(),
            _ => None,
        };
        let type_of = |key: &str| {
            let option =
                algorithm.and_then(|algorithm| declared_options(algorithm).find(|option| option.is_called(key)));
            match option.map(|option| option.range) {
                Some(Range::Whole { .. }) => DataType::Int64,
                Some(Range::Number { .. }) => DataType::Float64,
                Some(Range::Bool) => DataType::Boolean,
                Some(Range::Texts) => DataType::new_list(DataType::Utf8, true),
                Some(Range::Choice(_) | Range::Text) | None => DataType::Utf8,
            }
        };
        let parameter = |(key, given): &'_ (String, Given)| match given {
            Given::Parameter(id) => Some((id.clone(), type_of(key))),
            Given::Value(_) => None,
        };
        self.options.iter().filter_map(parameter).collect()
    }

    /// Whose the model is, or will be.
    fn owner(&self, session: &Session) -> Result<RoleId> {
        let there = session.store().model(&self.name.schema, &self.name.name)?;
        Ok(there.map_or(session.identity().current_role, |model| model.owner))
    }

    fn check_name(&self, session: &Session) -> Result<()> {
        definitions::refuse_virtual(&self.name.schema)?;
        let store = &session.store();
        if !store.schemas()?.contains(&self.name.schema) {
            return Err(Error::new(Kind::UnknownSchema, format!("schema \"{}\" does not exist", self.name.schema)));
        }
        session.rights()?.must_create_in(&self.name.schema)?;
        if self.exists == IfExists::Error && store.model(&self.name.schema, &self.name.name)?.is_some() {
            return Err(Error::new(Kind::ModelExists, format!("model \"{}\" already exists", self.name))
                .hint("CREATE OR REPLACE MODEL trains a new version of it"));
        }
        check_new_name(&self.name.name)
    }

    /// All rows of the query as the algorithm wants them.
    async fn read(
        &self,
        session: &Session,
        algorithm: &'static dyn Algorithm,
        options: &Options,
        run: &Run,
    ) -> Result<Read> {
        let mut state = session.context.state();
        state.config_mut().options_mut().catalog.default_schema = self.default_schema(session);
        let statement = Sql::Statement(Box::new(ast::Statement::Query(self.query.clone())));
        // The query is read again whenever the model is asked, as its owner's; so it is from the beginning.
        let rights = session.rights()?.acting_as(self.owner(session)?)?;
        let reserved =
            MemoryConsumer::new(format!("CREATE MODEL {}", self.name)).register(&state.runtime_env().memory_pool);
        let options = options.clone();
        session
            .in_turn(run, |cancel| async move {
                let plan = rights.checked_as_own(state.statement_to_plan(statement).await?)?;
                let sources = sources(&plan)?;
                let mut stream = Session::stream(state, plan, &cancel).await?;
                let mut intake = Intake::new(algorithm, &stream.schema(), &options)?;
                let mut n_rows = 0;
                while let Some(batch) = stream.next().await {
                    let batch = batch?;
                    n_rows += batch.num_rows();
                    intake.push(batch)?;
                    reserved.try_resize(intake.bytes())?;
                }
                Ok(Read { intake, n_rows, sources, reserved })
            })
            .await
    }

    fn commit(
        &self,
        session: &Session,
        trained: &Trained,
        artefact: &Artefact,
        sources: &[Source],
        took: Took,
    ) -> Result<u32> {
        let signature = trained.model.signature();
        let algorithm = self.checked()?.0;
        let facts = serde_json::json!({
            "statement": self.to_string(),
            // Where its tables are found when it is read again.
            "default_schema": temporary::lasting(&self.default_schema(session)),
            "task": format!("{:?}", algorithm.task()).to_lowercase(),
            "options": trained.options,
            // Those of them that were not found from the data: what it is trained with again.
            "chosen": trained.chosen,
            "inputs": signature.inputs,
            "label": signature.label,
            "evaluation": trained.evaluation,
            "ranking": trained.ranking,
            "steps": trained.steps,
            "sources": sources,
            "trials": trained.trials,
            "n_rows": trained.n_rows,
            "n_eval_rows": trained.n_eval_rows,
            "reading_seconds": took.reading.as_secs_f64(),
            "seconds": took.all.as_secs_f64(),
        });
        let new = NewModel {
            schema: self.name.schema.clone(),
            name: self.name.name.clone(),
            owner: self.owner(session)?,
            model_type: algorithm.name().to_owned(),
            facts,
        };
        let version = session.store().commit_model(new, artefact, self.exists)?;
        Ok(version)
    }
}

/// What was read of a query, and the memory that it is accounted for in.
struct Read {
    intake: Intake,
    n_rows: usize,
    sources: Vec<Source>,
    reserved: MemoryReservation,
}

/// What a training took from its start on: until the rows were read, and until the model stood.
#[derive(Clone, Copy)]
struct Took {
    reading: Duration,
    all: Duration,
}

/// Trains on the pool of the kernels, away from the threads that queries run on. Answers the model as data, too.
async fn fit(
    algorithm: &'static dyn Algorithm,
    intake: Intake,
    options: Options,
    before: Option<Artefact>,
    reserved: MemoryReservation,
    run: &Run,
) -> Result<(Trained, Artefact)> {
    let run = run.clone();
    let cancel = run.cancel.child_token();
    // If nobody waits for the result any more, the training stops too.
    let _stop = cancel.clone().drop_guard();
    let (send, receive) = tokio::sync::oneshot::channel();
    rayon::spawn(move || {
        let progress = Progress::new(run.clone());
        let step = |step: Step| {
            progress.tell(&step);
            !cancel.is_cancelled()
        };
        let trained = options.whole("seed").and_then(|seed| {
            let cx = FitContext {
                seed: seed as u64,
                progress: &step,
                notice: &|remark| run.notice(remark),
                reserve: &|bytes| reserve(&reserved, bytes),
            };
            let trained = train(algorithm, intake, &options, before.as_ref(), &cx)?;
            let artefact = trained.model.artefact()?;
            Ok((trained, artefact))
        });
        let _ = send.send(trained);
    });
    receive.await.map_err(|_| Error::internal("the training thread panicked"))?
}

/// Tells of progress about once a second, however fast the steps come.
struct Progress {
    run: Run,
    started: Instant,
    told: AtomicU64,
}

impl Progress {
    fn new(run: Run) -> Self {
        Self { run, started: Instant::now(), told: AtomicU64::new(0) }
    }

    fn tell(&self, step: &Step) {
        if *step != Step::QUESTION {
            self.run.step(step.done, step.total);
        }
        let second = self.started.elapsed().as_secs();
        if self.told.swap(second, Ordering::Relaxed) == second {
            return;
        }
        if *step == Step::QUESTION {
            return self.run.notice("evaluating on the rows held out");
        }
        let loss = step.loss.map(|loss| format!(", loss {loss:.6}")).unwrap_or_default();
        self.run.notice(format!("step {} of {}{loss}", step.done, step.total));
    }
}

/// The closing notice: what was learned from how much, and how good it is.
fn summary(name: &ModelName, version: u32, trained: &Trained, took: Duration) -> String {
    let seconds = took.as_secs_f64();
    let mut text = format!("model \"{name}\" version {version}: trained on {} rows in {seconds:.1} s", trained.n_rows);
    if trained.n_eval_rows > 0 {
        let metrics: Vec<String> = trained
            .evaluation
            .iter()
            .filter(|(name, _)| !name.starts_with("n_"))
            .filter_map(|(name, value)| value.map(|value| format!("{name} {value:.4}")))
            .collect();
        text += &format!("; on {} rows held out: {}", trained.n_eval_rows, metrics.join(", "));
    }
    text
}

/// The statement as it is kept with the model.
impl std::fmt::Display for CreateModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let create = if self.exists == IfExists::Replace { "CREATE OR REPLACE MODEL" } else { "CREATE MODEL" };
        let options: Vec<String> = self
            .options
            .iter()
            .map(|(key, given)| {
                let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
                let value = match given {
                    Given::Value(Value::Text(text)) => quoted(text),
                    Given::Value(Value::Texts(texts)) => {
                        format!("ARRAY[{}]", texts.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", "))
                    }
                    Given::Value(other) => other.to_string(),
                    Given::Parameter(id) => id.clone(),
                };
                format!("{key} = {value}")
            })
            .collect();
        write!(f, "{create} {} OPTIONS ({}) AS {}", self.name, options.join(", "), self.query)
    }
}
