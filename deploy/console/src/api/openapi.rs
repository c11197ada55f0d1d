//! The interface's description, OpenAPI 3.1, made of [`ROUTES`] and the types that they give.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::{Parameter, Problem, ROUTES, Route, of};

/// The whole description.
pub(super) fn document() -> Value {
    let mut settings = SchemaSettings::draft2020_12().for_serialize();
    settings.meta_schema = None;
    settings.definitions_path = "/components/schemas".into();
    let mut generator = settings.into_generator();
    let problem = of::<Problem>(&mut generator);
    let mut paths = Map::new();
    for route in &ROUTES {
        let gives = (route.gives)(&mut generator);
        let get = json!({
            "summary": route.about,
            "parameters": route.takes.iter().map(|of| parameter(route, of)).collect::<Vec<_>>(),
            "responses": {
                "200": { "description": "The answer.", "content": { "application/json": { "schema": gives } } },
                "default": {
                    "description": "Why there is none: 401 without the token where one is needed, 404 for what there is not, 503 \
                                    when too many ask at once, 500 for what cannot be read.",
                    "content": { "application/json": { "schema": problem } },
                },
            },
        });
        paths.insert(format!("/api/v1{}", route.path), json!({ "get": get }));
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Crosswatch",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What the status page shows, as JSON, by GET. Times are RFC 3339.",
        },
        "paths": paths,
        "components": {
            "schemas": generator.take_definitions(true),
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
        // On loopback none is needed.
        "security": [{}, { "token": [] }],
    })
}

fn parameter(route: &Route, of: &Parameter) -> Value {
    let place = if route.path.contains(&format!("{{{}}}", of.name)) { "path" } else { "query" };
    json!({
        "name": of.name,
        "in": place,
        "description": of.about,
        "required": of.needed,
        "schema": { "type": "string" },
    })
}
