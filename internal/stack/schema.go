package stack

import (
	"encoding/json"
	"reflect"
)

// Schema returns a JSON Schema (draft 2020-12) of the stack file, for editors. It has the keys,
// their types and their defaults. Rules about several values at once, such as two nodes with one
// port, are only in Parse.
func Schema() []byte {
	root := objectSchema(stackKeys)
	s := Default()
	addDefaults(root, showKeys(stackKeys, &s))
	// Whether Redis runs depends on the applications.
	delete(root["properties"].(schema)["redis"].(schema)["properties"].(schema)["enabled"].(schema), "default")
	root["type"] = []any{"object", "null"}
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "Holdfast stack file"
	root["description"] = "A highly available web application: HAProxy, web nodes, replicated Redis. Every key is optional."
	out, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		panic(err) // cannot happen: the values are this package's own, and a test marshals them
	}
	return append(out, '\n')
}

// addDefaults adds the default of each key to a schema.
func addDefaults(s schema, defaults mapping) {
	properties, ok := s["properties"].(schema)
	if !ok {
		return
	}
	for _, d := range defaults {
		below := properties[d.key].(schema)
		switch v := d.value.(type) {
		case mapping:
			addDefaults(below, v)
		case []any:
			if len(v) > 0 {
				if _, sections := v[0].(mapping); sections {
					continue
				}
			}
			below["default"] = v
		default:
			below["default"] = v
		}
	}
}

// appSchema returns the schema of an application: exactly one kind, the keys that fit it, and the
// defaults that all kinds share.
func appSchema(apps []key[App]) schema {
	s := objectSchema(apps)
	properties := s["properties"].(schema)
	var kinds []any
	dependent := schema{}
	for _, kind := range Kinds {
		kinds = append(kinds, schema{"required": []any{string(kind)}})
		barred := schema{}
		for _, k := range apps {
			if !k.fits(kind) && k.name != string(kind) {
				barred[k.name] = false
			}
		}
		dependent[string(kind)] = schema{"properties": barred}
	}
	s["oneOf"] = kinds
	s["dependentSchemas"] = dependent
	for _, k := range apps {
		if v, ok := commonDefault(k); ok {
			below := properties[k.name].(schema)
			if m, section := v.(mapping); section {
				addDefaults(below, m)
			} else {
				below["default"] = v
			}
		}
	}
	return s
}

// commonDefault returns the default of an application's key if it is the same for every kind that
// has the key. For a section it returns those keys in it that have a common default.
func commonDefault(k key[App]) (any, bool) {
	var common any
	first := true
	for _, kind := range Kinds {
		if !k.fits(kind) {
			continue
		}
		var a App
		fillApp(&a, kind, func(path) bool { return false })
		v := k.show(&a)
		if first {
			common, first = v, false
			continue
		}
		if m, section := v.(mapping); section {
			common = intersection(common.(mapping), m)
		} else if !reflect.DeepEqual(v, common) {
			return nil, false
		}
	}
	return common, common != nil
}

func intersection(a, b mapping) mapping {
	in := map[string]any{}
	for _, p := range b {
		in[p.key] = p.value
	}
	out := mapping{}
	for _, p := range a {
		if v, ok := in[p.key]; ok && v == p.value {
			out = append(out, p)
		}
	}
	return out
}
