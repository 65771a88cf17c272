//! Other routes while the server runs: what the new set keeps of the old one. A source whose settings are the same
//! keeps its connections, a route that is the same keeps its identity, so that what was loaded for it stays fresh, and a
//! feed with the same routes goes on undisturbed. Knows the file's fields as text; reads no keys.

use super::feed::Feed;
use super::postgres::Postgres;
use super::routes::{Config, Route, Routes};
use super::source_config::SourceConfig;
use super::{Source, Sources};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use toml::de::DeValue;

impl Sources {
    /// The sources and routes of `config` in place of these; the error says why it cannot be.
    pub fn reloaded(&self, config: Config) -> Result<Sources, String> {
        // What was switched off stays off, as long as it is there.
        let mut disabled = self.disabled.clone();
        disabled.retain(|name| config.routes.iter().any(|route| route.name == *name));
        let new = build(config, disabled, Some(self))?;
        // A password in a file of its own may be another, too.
        new.sources.iter().for_each(|source| source.reconsider());
        Ok(new)
    }

    /// These with one more route, given as the fields of its `[[route]]`.
    pub fn with_route(&self, fields: &[(&str, &str)]) -> Result<Sources, String> {
        let text = document(fields)?;
        let mut config = self.config.as_ref().clone();
        config.read_more("ROUTE ADD", &text).map_err(|faults| {
            let all: Vec<String> = faults.iter().map(|fault| fault.message.clone()).collect();
            all.join("; ")
        })?;
        build(config, self.disabled.clone(), Some(self))
    }

    /// These without one route.
    pub fn without_route(&self, name: &str) -> Result<Sources, String> {
        self.known(name)?;
        let mut config = self.config.as_ref().clone();
        config.routes.retain(|route| *route.name != *name);
        let mut disabled = self.disabled.clone();
        disabled.remove(name);
        build(config, disabled, Some(self))
    }

    /// These with one route switched on or off.
    pub fn switched(&self, name: &str, on: bool) -> Result<Sources, String> {
        self.known(name)?;
        let mut disabled = self.disabled.clone();
        match on {
            true => disabled.remove(name),
            false => disabled.insert(name.into()),
        };
        build(self.config.as_ref().clone(), disabled, Some(self))
    }

    /// The route of a name, switched off or not; the error says that there is none.
    pub fn known(&self, name: &str) -> Result<&Arc<Route>, String> {
        let found = self.config.routes.iter().find(|route| *route.name == *name);
        found.ok_or_else(|| format!("there is no route '{}'", name.escape_debug()))
    }

    /// All routes of the file and of ROUTE ADD, each with whether it is switched on.
    pub fn all_routes(&self) -> impl ExactSizeIterator<Item = (&Arc<Route>, bool)> {
        self.config.routes.iter().map(|route| (route, !self.disabled.contains(&route.name)))
    }

    /// The settings of a route's source.
    pub fn source_of(&self, route: &Route) -> Option<&SourceConfig> {
        self.config.sources.get(route.source)
    }

    /// The routes of these that are not among the others: what was loaded for them may be wrong by the others.
    pub fn not_in(&self, others: &Sources) -> Vec<Arc<Route>> {
        let is_gone = |route: &&Arc<Route>| !others.routes().iter().any(|other| Arc::ptr_eq(other, route));
        self.routes().iter().filter(is_gone).cloned().collect()
    }
}

/// Builds the sources of `config`, keeping what can be kept of `old`.
pub(super) fn build(
    mut config: Config,
    disabled: BTreeSet<Box<str>>,
    old: Option<&Sources>,
) -> Result<Sources, String> {
    // A source that stands elsewhere now is another: routes name it by its place.
    let same: Vec<bool> = (0..config.sources.len())
        .map(|index| {
            let before = old.and_then(|old| old.config.sources.get(index));
            before.is_some_and(|before| before.is_same(&config.sources[index]))
        })
        .collect();
    if let Some(old) = old {
        adopt(&mut config, &same, &old.config);
    }
    let enabled: Vec<Arc<Route>> =
        config.routes.iter().filter(|route| !disabled.contains(&route.name)).cloned().collect();
    let routes = Routes::build(&enabled).map_err(|overlaps| format!("{} routes overlap", overlaps.len()))?;
    let (mut sources, mut feeds, mut limits) = (Vec::new(), Vec::new(), Vec::new());
    for (index, source) in config.sources.iter().enumerate() {
        let own: Vec<Arc<Route>> = enabled.iter().filter(|route| route.source == index).cloned().collect();
        let wanted = limits_of(&own);
        let kept = old.filter(|_| same[index]).and_then(|old| {
            let known = *old.limits.get(index)?;
            // Its connections were opened for values and loads of at most that size.
            (wanted.0 <= known.0 && wanted.1 <= known.1).then(|| Some((Arc::clone(old.sources.get(index)?), known)))?
        });
        let (made, limit) = kept.unwrap_or_else(|| (Postgres::new(source, &own) as Arc<dyn Source>, wanted));
        sources.push(made);
        limits.push(limit);
        if let Some(feed_config) = &source.feed {
            let kept =
                old.filter(|_| same[index]).and_then(|old| old.feeds.iter().find(|feed| feed.is_for(source, &own)));
            let feed = kept.cloned().unwrap_or_else(|| Arc::new(Feed::new(source, feed_config, &own)));
            feeds.push(feed);
        }
    }
    Ok(Sources { config: Arc::new(config), disabled, routes, sources, feeds, limits })
}

/// Takes over what is `same` in the old configuration: routes as they are, and of sources what their loads have seen.
fn adopt(config: &mut Config, same: &[bool], old: &Config) {
    for (index, source) in config.sources.iter_mut().enumerate().filter(|(index, _)| same[*index]) {
        source.horizon = Arc::clone(&old.sources[index].horizon);
    }
    for route in config.routes.iter_mut().filter(|route| same[route.source]) {
        if let Some(before) = old.routes.iter().find(|before| before.is_same(route)) {
            *route = Arc::clone(before);
            continue;
        }
        let horizon = Arc::clone(&old.sources[route.source].horizon);
        horizon.allow(route.load_timeout);
        if let Some(terms) = Arc::get_mut(route).and_then(|route| Arc::get_mut(&mut route.terms)) {
            terms.horizon = horizon;
        }
    }
}

/// The largest value and the longest load of some routes.
fn limits_of(routes: &[Arc<Route>]) -> (usize, Duration) {
    let bytes = routes.iter().map(|route| route.max_value_bytes).max().unwrap_or(0);
    (bytes, routes.iter().map(|route| route.load_timeout).max().unwrap_or_default())
}

/// Fields whose values are always strings.
const TEXTS: &[&str] = &["name", "key", "query", "source"];

/// One `[[route]]` as a document. What is no text field may be a number, a list or a table.
fn document(fields: &[(&str, &str)]) -> Result<String, String> {
    let mut text = String::from("[[route]]\n");
    for (name, value) in fields {
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') || name.is_empty() {
            return Err(format!("'{}' is no field of a route", name.escape_debug()));
        }
        let is_bare = !TEXTS.contains(name)
            && (value.starts_with('[')
                || *name == "write" && value.starts_with('{')
                || !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()));
        let value = if is_bare { bare(name, value)? } else { quoted(value) };
        text.push_str(&format!("{name} = {value}\n"));
    }
    Ok(text)
}

/// A number or list, and nothing behind it.
fn bare(name: &str, value: &str) -> Result<String, String> {
    let whole = format!("value = {value}");
    match toml::de::DeTable::parse(&whole) {
        Ok(table) if table.get_ref().len() == 1 => Ok(value.to_owned()),
        _ => Err(format!("the value of {name} is neither a number nor a list")),
    }
}

/// A text as TOML's basic string.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A value as one text, whatever line it stands on.
pub(super) fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => number.as_str().to_owned(),
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(at) => at.to_string(),
        DeValue::Array(list) => {
            let items: Vec<String> = list.iter().map(|item| shown_inside(item.get_ref())).collect();
            format!("[{}]", items.join(", "))
        }
        DeValue::Table(table) => {
            let pairs: Vec<String> = table
                .iter()
                .map(|(name, value)| format!("{} = {}", name.get_ref(), shown_inside(value.get_ref())))
                .collect();
            format!("{{ {} }}", pairs.join(", "))
        }
    }
}

fn shown_inside(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => quoted(text),
        other => shown(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "[source.a]\nurl = 'postgres://u@h/a'\ninvalidate = 'wal'\n[source.b]\nurl = 'postgres://u@h/b'\n\
                        [[route]]\nkey = 'x:{i}'\nquery = 'SELECT i FROM x WHERE i = {i}'\nttl = '1h'\nsource = 'a'\n\
                        [[route]]\nkey = 'y:{i}'\nquery = 'SELECT i FROM y WHERE i = {i}'\nttl = '1h'\nsource = 'b'\n";

    fn open(text: &str) -> Sources {
        Sources::open(&Config::parse("r", text, None).unwrap()).unwrap()
    }

    fn reload(old: &Sources, text: &str) -> Sources {
        old.reloaded(Config::parse("r", text, None).unwrap()).unwrap()
    }

    #[test]
    fn what_is_the_same_is_kept() {
        let old = open(FILE);
        let new = reload(&old, &format!("# a comment\n{FILE}"));
        assert!(old.not_in(&new).is_empty() && Arc::ptr_eq(&old.feeds[0], &new.feeds[0]));
        assert!((0..2).all(|index| Arc::ptr_eq(&old.sources[index], &new.sources[index])));
        let new = reload(&old, &FILE.replace("'y:{i}'", "'z:{i}'"));
        assert_eq!(old.not_in(&new).iter().map(|route| &*route.name).collect::<Vec<_>>(), ["y:{i}"]);
        assert!(Arc::ptr_eq(&old.feeds[0], &new.feeds[0]) && Arc::ptr_eq(&old.sources[1], &new.sources[1]));
        let new = reload(&old, &FILE.replace("@h/a", "@h/c"));
        assert_eq!(old.not_in(&new).iter().map(|route| &*route.name).collect::<Vec<_>>(), ["x:{i}"]);
        assert!(!Arc::ptr_eq(&old.sources[0], &new.sources[0]) && Arc::ptr_eq(&old.sources[1], &new.sources[1]));
        assert!(!Arc::ptr_eq(&old.feeds[0], &new.feeds[0]));
    }

    #[test]
    fn routes_come_and_go() {
        let old = open(FILE);
        let fields = [
            ("name", "n"),
            ("key", "n:{i}"),
            ("query", "SELECT 'a\nb\"' WHERE {i} = 1"),
            ("ttl", "5s"),
            ("source", "b"),
            ("databases", "[0, 1]"),
            ("max_value_bytes", "10"),
        ];
        let new = old.with_route(&fields).unwrap();
        let added = new.known("n").unwrap();
        assert_eq!((added.source, added.max_value_bytes, added.query.names().len()), (1, 10, 1));
        assert_eq!(new.all_routes().len(), 3);
        assert!(old.with_route(&fields[..3]).err().unwrap().contains("no ttl"));
        assert!(old.with_route(&[("key", "x:{j}"), fields[2], fields[3], fields[4]]).is_err());
        let overlapping = [("key", "x:{i}"), ("name", "m"), fields[2], fields[3], fields[4]];
        assert!(old.with_route(&overlapping).err().unwrap().contains("overlaps"));
        assert!(old.with_route(&[("databases", "[0]\n[[route]]")]).is_err());
        assert!(old.with_route(&[("a b", "1")]).is_err());
        let off = new.switched("n", false).unwrap();
        assert!(off.find(0, b"n:1").is_none() && new.find(0, b"n:1").is_some());
        assert!(off.switched("n", true).unwrap().find(0, b"n:1").is_some());
        assert!(off.without_route("n").unwrap().known("n").is_err());
        assert!(off.without_route("q").is_err());
    }
}
