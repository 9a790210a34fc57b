//! All files of a directory together, beside what an application has already.

use crate::cut_off;
use crate::draft::{Declared, Draft};
use crate::exec::{Exec, ExecModule};
use kraken::Module;
use kraken_model::{Registry, Schema};
use kraken_plan::{ModuleSet, Mutation};
use kraken_yaml::{Diagnostic, Pos};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The largest file, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Modules that were read from files.
#[derive(Debug, Default)]
pub struct Modules {
    declared: Vec<Arc<Declared>>,
}

impl Modules {
    /// Reads every `*.yaml` and `*.yml` of a directory; one that is not there has none. `schemas` and
    /// `mutations` are those of the application.
    ///
    /// # Errors
    /// Everything that is wrong with any of the files, file by file.
    pub fn read(
        dir: &Path,
        schemas: &[Schema],
        mutations: &[Mutation],
    ) -> Result<Self, Vec<Diagnostic>> {
        let (mut drafts, mut wrong) = (Vec::new(), Vec::new());
        // Commands run beside their file, so its path must mean the same from there.
        let absolute = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
        for file in files(&absolute)? {
            match text(&file).and_then(|text| Draft::read(&file, &text)) {
                Ok(draft) => drafts.push(draft),
                Err(found) => wrong.extend(found),
            }
        }
        let schemas = claim(&mut drafts, schemas, mutations);
        let registry = Registry::new(schemas).map_err(|error| {
            vec![whole(dir, "these files do not fit together", &error.to_string())]
        })?;
        let mut declared: Vec<Declared> =
            drafts.into_iter().map(|draft| draft.finish(&registry)).collect();
        find_targets(&mut declared, mutations);
        let is_right =
            |declared: &[Declared]| declared.iter().all(|declared| declared.report.is_empty());
        if is_right(&declared) {
            cut_off::find(&mut declared, mutations, &registry);
        }
        let modules = if is_right(&declared) && wrong.is_empty() {
            Self { declared: declared.into_iter().map(Arc::new).collect() }
        } else {
            wrong.extend(declared.into_iter().flat_map(|declared| declared.report.finish()));
            return Err(wrong);
        };
        let mut all = mutations.to_vec();
        modules.extend(&mut all);
        let problems = ModuleSet::new(&registry, all).err().unwrap_or_default();
        let wrong: Vec<_> = problems
            .iter()
            .map(|problem| whole(dir, "these files do not fit together", &problem.to_string()))
            .collect();
        if wrong.is_empty() { Ok(modules) } else { Err(wrong) }
    }

    /// The schemas that the files declare.
    #[must_use]
    pub fn schemas(&self) -> Vec<Schema> {
        self.declared.iter().map(|declared| declared.schema.clone()).collect()
    }

    /// Adds the guards of the files to mutations, and the mutations of the files.
    pub fn extend(&self, mutations: &mut Vec<Mutation>) {
        for step in self.declared.iter().flat_map(|declared| &declared.steps) {
            mutations.push(step.mutation.clone());
        }
        for addition in self.declared.iter().flat_map(|declared| &declared.additions) {
            let target = mutations.iter_mut().find(|m| *m.name == *addition.mutation);
            if let Some(target) = target {
                target.requires.extend(addition.requires.iter().cloned());
                target.excludes.extend(addition.excludes.iter().cloned());
            }
        }
    }

    /// The modules, to be hosted. `registry` knows their schemas; in `run`, those that are processes
    /// of their own have their sockets.
    #[must_use]
    pub fn hosted(&self, registry: &Arc<Registry>, run: &Path) -> Vec<Arc<dyn Module>> {
        self.running(registry, run, None).modules()
    }

    /// The same, to go over from what ran before: what runs as it would now is taken from there.
    #[must_use]
    pub fn running(
        &self,
        registry: &Arc<Registry>,
        run: &Path,
        before: Option<&Running>,
    ) -> Running {
        let present = |declared: &Declared| {
            let before = before?;
            let is_it = |(other, _): &&(Arc<Declared>, Arc<dyn Module>)| {
                declared.runs_as(other, registry, &before.registry)
            };
            before.modules.iter().find(is_it).cloned()
        };
        let host = |declared: &Arc<Declared>| {
            let new = || (Arc::clone(declared), host(declared, registry, run));
            present(declared).unwrap_or_else(new)
        };
        let modules = self.declared.iter().map(host).collect();
        Running { modules, registry: Arc::clone(registry) }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.declared.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.declared.is_empty()
    }
}

/// Modules that run, and by which files.
pub struct Running {
    modules: Vec<(Arc<Declared>, Arc<dyn Module>)>,
    registry: Arc<Registry>,
}

impl Running {
    /// The modules, to be hosted.
    #[must_use]
    pub fn modules(&self) -> Vec<Arc<dyn Module>> {
        self.modules.iter().map(|(_, module)| Arc::clone(module)).collect()
    }
}

fn host(declared: &Arc<Declared>, registry: &Arc<Registry>, run: &Path) -> Arc<dyn Module> {
    let declared = Arc::clone(declared);
    #[cfg(feature = "grpc")]
    if declared.serve.is_some() {
        return Arc::new(crate::grpc::Grpc::new(declared, run.to_owned()));
    }
    #[cfg(not(feature = "grpc"))]
    let _ = run;
    Arc::new(Exec(Arc::new(ExecModule::new(declared, Arc::clone(registry)))))
}

/// The files, in the order of their names.
fn files(dir: &Path) -> Result<Vec<PathBuf>, Vec<Diagnostic>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(vec![whole(dir, "the directory cannot be read", &error.to_string())]);
        }
    };
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|it| it == "yaml" || it == "yml"))
        .collect();
    files.sort();
    Ok(files)
}

fn text(file: &Path) -> Result<String, Vec<Diagnostic>> {
    let refuse = |why: &str| vec![whole(file, "the file cannot be read", why)];
    let about = std::fs::metadata(file).map_err(|error| refuse(&error.to_string()))?;
    if about.len() > MAX_FILE_BYTES {
        return Err(refuse("it is larger than 1 MiB"));
    }
    std::fs::read_to_string(file).map_err(|error| refuse(&error.to_string()))
}

fn whole(file: &Path, what: &str, why: &str) -> Diagnostic {
    Diagnostic {
        file: file.display().to_string(),
        line: 1,
        column: 1,
        path: String::new(),
        what: what.to_owned(),
        why: why.to_owned(),
        hint: String::new(),
    }
}

/// Gives every address to the file that declares it first; the others are told. Gives all schemas.
fn claim(drafts: &mut [Draft], schemas: &[Schema], mutations: &[Mutation]) -> Vec<Schema> {
    let mut all = schemas.to_vec();
    let mut names: BTreeSet<String> = mutations.iter().map(|m| m.module.to_string()).collect();
    names.extend(schemas.iter().map(|schema| schema.name.clone()));
    for draft in drafts {
        if !names.insert(draft.name.clone()) {
            let what = format!("module {} is there already", draft.name);
            draft.report.add(draft.at, "module", what, "names are unique", "choose another name");
        }
        let report = &mut draft.report;
        let mut own = BTreeSet::new();
        draft.fields.retain(|(field, at)| {
            let address = field.pattern.as_str();
            if !own.insert(address.to_owned()) {
                let what = format!("{address} is declared twice in this file");
                report.add(*at, address, what, "a value means one thing", "leave one out");
                return false;
            }
            let claims = |other: &kraken_model::Field| {
                other.pattern.matches(address) || field.pattern.matches(other.pattern.as_str())
            };
            let mut owners = all.iter().filter(|schema| schema.fields.iter().any(claims));
            let Some(owner) = owners.next() else { return true };
            let what = format!("{address} cannot be declared here");
            let why = format!("it belongs to {}, and a value has one writer", owner.name);
            report.add(*at, address, what, why, "choose another name");
            false
        });
        all.push(draft.schema());
    }
    all
}

/// Says which guards are added to mutations that there are not.
fn find_targets(declared: &mut [Declared], mutations: &[Mutation]) {
    let own = declared.iter().flat_map(|declared| declared.steps.iter().map(|s| &s.mutation));
    let known: BTreeMap<String, String> = mutations
        .iter()
        .chain(own)
        .map(|mutation| (mutation.name.to_string(), mutation.module.to_string()))
        .collect();
    for declared in declared {
        let strangers: Vec<(String, Pos)> = declared
            .additions
            .iter()
            .filter(|addition| !known.contains_key(&addition.mutation))
            .map(|addition| (addition.mutation.clone(), addition.at))
            .collect();
        for (name, at) in strangers {
            let names = known.keys().map(String::as_str);
            declared.report.unknown(at, &format!("guards.{name}"), &name, names);
        }
    }
}
