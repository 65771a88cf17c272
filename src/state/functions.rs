//! The libraries in force, and which functions are theirs. It must not know Lua, or how functions run.

use crate::script::{FunctionInfo, Library};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// What a library does to others of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// It is refused if there is one.
    Append,
    /// It takes its place.
    Replace,
    /// All others go.
    Flush,
}

/// Libraries at some moment.
#[derive(Clone, Debug, Default)]
pub struct LibrarySet {
    /// By name.
    pub libraries: BTreeMap<String, Arc<Library>>,
    /// By the names of their functions, in lower case.
    functions: HashMap<String, Arc<Library>>,
}

impl LibrarySet {
    /// A function, in any case of its name, and its library.
    pub fn find(&self, name: &[u8]) -> Option<(&Arc<Library>, &FunctionInfo)> {
        let name = std::str::from_utf8(name).ok()?.to_ascii_lowercase();
        let library = self.functions.get(&name)?;
        let info = library.functions.iter().find(|info| info.name.eq_ignore_ascii_case(&name))?;
        Some((library, info))
    }

    /// Functions.
    pub fn functions(&self) -> usize {
        self.functions.len()
    }

    /// Bytes that they take.
    pub fn memory(&self) -> usize {
        self.libraries.values().map(|library| library.memory()).sum()
    }

    /// True if this very library is in force.
    pub fn has(&self, library: &Arc<Library>) -> bool {
        self.libraries.get(&library.name).is_some_and(|own| Arc::ptr_eq(own, library))
    }

    fn remove(&mut self, name: &str) -> bool {
        let Some(library) = self.libraries.remove(name) else { return false };
        self.functions.retain(|_, owner| !Arc::ptr_eq(owner, &library));
        true
    }

    fn add(&mut self, library: Arc<Library>, replace: bool) -> Result<(), String> {
        if replace {
            self.remove(&library.name);
        } else if self.libraries.contains_key(&library.name) {
            return Err(format!("ERR Library '{}' already exists", library.name));
        }
        let taken = library.functions.iter().find(|info| self.functions.contains_key(&info.name.to_ascii_lowercase()));
        if let Some(info) = taken {
            return Err(format!("ERR Function {} already exists", info.name));
        }
        for info in &library.functions {
            self.functions.insert(info.name.to_ascii_lowercase(), Arc::clone(&library));
        }
        self.libraries.insert(library.name.clone(), library);
        Ok(())
    }
}

/// All libraries.
#[derive(Debug, Default)]
pub struct Functions {
    current: ArcSwap<LibrarySet>,
    changes: Mutex<()>,
}

impl Functions {
    /// Those in force now.
    pub fn load(&self) -> Arc<LibrarySet> {
        self.current.load_full()
    }

    /// Adds libraries, all or none; or the error.
    pub fn add(&self, libraries: Vec<Library>, policy: Policy) -> Result<(), String> {
        let _change = self.changes.lock();
        let mut set = if policy == Policy::Flush { LibrarySet::default() } else { (**self.current.load()).clone() };
        for library in libraries {
            set.add(Arc::new(library), policy == Policy::Replace)?;
        }
        self.current.store(Arc::new(set));
        Ok(())
    }

    /// Removes a library; false if there is none of that name.
    pub fn delete(&self, name: &str) -> bool {
        let _change = self.changes.lock();
        let mut set = (**self.current.load()).clone();
        let was_there = set.remove(name);
        self.current.store(Arc::new(set));
        was_there
    }

    /// Removes all.
    pub fn flush(&self) {
        let _change = self.changes.lock();
        self.current.store(Arc::default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn library(name: &str, functions: &[&str]) -> Library {
        let mut library = Library::new(format!("#!lua name={name}\n").as_bytes()).unwrap();
        let info =
            |name: &&str| FunctionInfo { name: (*name).to_owned(), description: None, flags: Default::default() };
        library.functions = functions.iter().map(info).collect();
        library
    }

    #[test]
    fn a_function_belongs_to_one_library_and_a_refusal_changes_nothing() {
        let all = Functions::default();
        all.add(vec![library("a", &["f", "g"])], Policy::Append).unwrap();
        assert!(all.add(vec![library("a", &["h"])], Policy::Append).is_err());
        assert!(all.add(vec![library("c", &["x"]), library("b", &["F"])], Policy::Replace).is_err());
        let set = all.load();
        assert_eq!((set.libraries.len(), set.functions()), (1, 2));
        assert_eq!(set.find(b"G").unwrap().1.name, "g");
        all.add(vec![library("a", &["h"])], Policy::Replace).unwrap();
        assert!(all.load().find(b"f").is_none() && all.load().find(b"h").is_some());
        assert!(!all.load().has(set.find(b"f").unwrap().0));
        all.add(vec![library("b", &["f"])], Policy::Flush).unwrap();
        assert!(all.delete("b") && !all.delete("b") && all.load().libraries.is_empty());
    }
}
