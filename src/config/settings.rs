//! The precedence of values.

use std::path::Path;

use super::{
    error::Error,
    file::{File, Files, Project},
    layer::Layer,
    options::{Key, Trust, Typed, typed},
    origin::{Setting, Whose},
    value,
};
use crate::regular_file::Sha256;

/// The tables of one file for one target, or for the process.
#[derive(Debug, Clone, Copy, Default)]
struct Tables<'a> {
    /// `[targets.NAME]`.
    target: Option<&'a Layer>,
    /// `[defaults]`.
    defaults: Option<&'a Layer>,
}

impl<'a> Tables<'a> {
    fn of(file: &'a File, target: Option<&str>) -> Self {
        Self { target: target.and_then(|name| file.target(name)), defaults: Some(&file.defaults) }
    }

    fn get(&self, key: Key) -> Option<&'a Setting> {
        [self.target, self.defaults].into_iter().flatten().find_map(|layer| layer.get(key))
    }
}

/// The options that the project's file may set here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// Everything, since the owner trusts it as it is.
    Trusted,
    /// Options that anyone may set.
    Untrusted,
    /// Stricter guards: the target is not the project's.
    Guards,
}

/// The settings of one target (or, without one, of the process), the strongest first: flags, variables, the project's
/// tables, the user's own.
///
/// A target is described by one file. The user's own `[defaults]` apply to a project's targets too, since they are the
/// owner's word; a project's `[defaults]` apply to its own targets alone. Of two targets with one name the user's own is
/// meant, and the project's adds its guards to it.
#[derive(Debug, Clone)]
pub(super) struct Settings<'a> {
    outside: Vec<&'a Layer>,
    project: Tables<'a>,
    own: Tables<'a>,
    reach: Reach,
    file: Option<&'a Project>,
}

impl<'a> Settings<'a> {
    /// The values for the target called `name`.
    pub(super) fn of_target(outside: &[&'a Layer], files: &'a Files, whose: Whose, name: &str) -> Self {
        let project = files.project.as_ref();
        let of_own = |target| files.own.as_ref().map(|file| Tables::of(file, target)).unwrap_or_default();
        let (project_tables, own, reach) = match (whose, project) {
            (Whose::Project, Some(project)) => {
                let reach = if project.is_trusted() { Reach::Trusted } else { Reach::Untrusted };
                (Tables::of(&project.file, Some(name)), of_own(None), reach)
            }
            (Whose::Own, Some(project)) => {
                let tables = Tables { defaults: None, ..Tables::of(&project.file, Some(name)) };
                (tables, of_own(Some(name)), Reach::Guards)
            }
            (Whose::Own, None) => (Tables::default(), of_own(Some(name)), Reach::Guards),
            (Whose::CommandLine | Whose::Project, _) => (Tables::default(), of_own(None), Reach::Guards),
        };
        Self { outside: outside.to_vec(), project: project_tables, own, reach, file: project }
    }

    /// The settings of the process; the project's `[defaults]` too where it serves nothing but the project's targets.
    pub(super) fn of_process(outside: &[&'a Layer], files: &'a Files, with_project: bool) -> Self {
        let of = |file| Tables::of(file, None);
        let project = files.project.as_ref().filter(|_| with_project);
        let reach = if project.is_some_and(Project::is_trusted) { Reach::Trusted } else { Reach::Untrusted };
        Self {
            outside: outside.to_vec(),
            project: project.map(|project| of(&project.file)).unwrap_or_default(),
            own: files.own.as_ref().map(of).unwrap_or_default(),
            reach,
            file: project,
        }
    }

    /// The settings that would apply if the owner trusted the project's file.
    #[must_use]
    pub(super) fn if_trusted(&self) -> Self {
        let reach = if self.reach == Reach::Untrusted { Reach::Trusted } else { self.reach };
        Self { reach, ..self.clone() }
    }

    /// The value that wins.
    pub(super) fn get(&self, key: Key) -> Option<&'a Setting> {
        self.outside(key).or_else(|| {
            let project = self.project.get(key).filter(|setting| self.may_set(key, setting));
            // The project alone says whose database it is, so no password may go there.
            let gives_password = matches!(key, Key::Auth | Key::Secret | Key::PasswordCommand);
            let may_inherit = self.reach != Reach::Untrusted || !gives_password;
            let own = self.own.get(key).filter(|_| may_inherit);
            match key.trust() {
                Trust::Stricter => stricter(key, project, own),
                Trust::Project | Trust::Owner(_) | Trust::OwnerUnlessRds(_) | Trust::Never => project.or(own),
            }
        })
    }

    /// The value set for this target: by a flag, a variable or its own table.
    pub(super) fn for_target(&self, key: Key) -> Option<&'a Setting> {
        let project = || self.project.target?.get(key).filter(|setting| self.may_set(key, setting));
        self.outside(key).or_else(project).or_else(|| self.own.target?.get(key))
    }

    /// The settings of the project's file that it may not make, because the owner has not trusted it. Nothing where a flag or a variable
    /// says something else anyway.
    pub(super) fn withheld(&self, key: Key) -> Option<&'a Setting> {
        let refused = self.project.get(key).filter(|setting| !self.may_set(key, setting))?;
        (self.reach == Reach::Untrusted && self.outside(key).is_none()).then_some(refused)
    }

    /// The content that the file with this path must have, where it was read before the owner trusted it.
    pub(super) fn sha256(&self, path: &Path) -> Option<Sha256> {
        self.file.filter(|_| self.reach == Reach::Trusted)?.fingerprint.named.get(path).copied().flatten()
    }

    fn outside(&self, key: Key) -> Option<&'a Setting> {
        self.outside.iter().find_map(|layer| layer.get(key))
    }

    /// Whether the project's file may say this here.
    fn may_set(&self, key: Key, setting: &Setting) -> bool {
        match (key.trust(), self.reach) {
            (Trust::Stricter, _) => true,
            (_, Reach::Guards) | (Trust::Never, _) => false,
            (_, Reach::Trusted) | (Trust::Project, Reach::Untrusted) => true,
            (Trust::Owner(_), Reach::Untrusted) => key.switched_off_by(&setting.value),
            // The bastion is the way that a project may always choose.
            (Trust::OwnerUnlessRds(_), Reach::Untrusted) => {
                let host = self.project.target.and_then(|table| table.get(Key::Host));
                let reference = host.and_then(|host| value::reference(&host.value).ok());
                setting.value == "ssm" || reference.is_some_and(|reference| reference.is_rds())
            }
        }
    }

    /// The value that wins, parsed.
    ///
    /// # Errors
    /// [`Error::BadValue`] with the place that it came from.
    pub(super) fn value<O: Typed>(&self) -> Result<Option<O::Value>, Error> {
        self.get(O::KEY).map(parse::<O>).transpose()
    }

    /// The value that wins, else the default in the table of options, which must be a fixed one.
    ///
    /// # Errors
    /// [`Error::BadValue`] with the place that it came from.
    pub(super) fn value_or_default<O: Typed>(&self) -> Result<O::Value, Error> {
        let default = const { O::KEY.entry().default.fixed() };
        Ok(self.value::<O>()?.unwrap_or_else(|| O::parse(default).expect("a test parses the defaults of all options")))
    }
}

/// One value, parsed.
///
/// # Errors
/// [`Error::BadValue`] with the place that it came from.
pub(super) fn parse<O: Typed>(setting: &Setting) -> Result<O::Value, Error> {
    O::parse(&setting.value).map_err(|source| Error::BadValue { key: O::KEY, origin: setting.origin.clone(), source })
}

/// Of two values of a guard the one that guards better. A value that does not parse wins, so that it is complained of.
fn stricter<'a>(key: Key, project: Option<&'a Setting>, own: Option<&'a Setting>) -> Option<&'a Setting> {
    // Nothing is looser than that.
    let project = project.filter(|setting| key != Key::LocalTls || setting.value != "off");
    let (Some(project), Some(own)) = (project, own) else { return project.or(own) };
    let time = |setting: &Setting| typed::StatementTimeout::parse(&setting.value);
    let tls = |setting: &Setting| typed::LocalTls::parse(&setting.value);
    let projects = match key {
        Key::StatementTimeout => match (time(project), time(own)) {
            (Ok(project), Ok(own)) => project < own,
            (project, _) => project.is_err(),
        },
        Key::LocalTls => match (tls(project), tls(own)) {
            (Ok(project), Ok(own)) => project > own,
            (project, _) => project.is_err(),
        },
        // The owner's words are not replaced.
        Key::Label => false,
        _ => own.value != "true",
    };
    Some(if projects { project } else { own })
}
