// Package jsonlite reads and writes the JSON of fastbind's wires and files.
//
// It exists because it is small: encoding/json adds 0.8 MB and its start-up
// work to every tool that links the client SDK. It guarantees
//
//   - strictness: Parse takes exactly one RFC 8259 text and refuses, with the
//     byte offset, what two readers could understand differently: a name that
//     appears twice in an object, invalid UTF-8, escapes of half a surrogate
//     pair (the rules of I-JSON, RFC 7493 sections 2.1 and 2.3);
//   - bounds: nesting deeper than MaxDepth is refused, and memory is a fixed
//     multiple of the input, whose size is the caller's to bound;
//   - nothing is lost: objects keep the order of their members, numbers keep
//     their text, so what a reader does not know survives reading and writing.
//
// It does not map JSON onto Go structs; a caller takes a Value apart by name:
//
//	v, err := jsonlite.Parse(data)
//	pid, ok := v.Get("pid").Int()
//	data = v.Append(nil)
//
// and writes either a Value or, without building one, text:
//
//	dst = append(dst, '{')
//	dst = strconv.AppendInt(jsonlite.AppendName(dst, "pid"), 4711, 10)
//	dst = append(dst, '}')
package jsonlite
