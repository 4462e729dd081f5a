//! A foreign library, loaded at run time by name, as a struct of its functions; no header or development package is needed,
//! and a host without it is an error value. It knows no library.

/// Makes `struct Api`, with one field for each function, and `fn api()`, which loads the library once. The types are the
/// caller's promise: those of the library's header.
macro_rules! library {
    ($file:literal, $package:literal; $($name:ident: fn($($argument:ty),*) -> $result:ty;)*) => {
        /// The functions that are called, and the library that holds them.
        #[derive(Debug)]
        #[allow(non_snake_case, reason = "NORM names its functions so")]
        struct Api {
            $($name: unsafe extern "C" fn($($argument),*) -> $result,)*
            _library: libloading::Library,
        }

        fn api() -> $crate::Result<&'static Api> {
            static API: std::sync::OnceLock<std::result::Result<Api, libloading::Error>> = std::sync::OnceLock::new();
            let load = || {
                // SAFETY: the initialisers of these libraries need nothing from us, and the types are those of their
                // headers. The library is kept as long as its functions.
                unsafe {
                    let library = libloading::Library::new($file)?;
                    Ok(Api { $($name: *library.get(stringify!($name).as_bytes())?,)* _library: library })
                }
            };
            let loaded = API.get_or_init(load).as_ref();
            loaded.map_err(|error| format!("{error} (apt-get install {})", $package).into())
        }
    };
}

pub(crate) use library;
