package sdktypes

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestATypeIsWrittenAsTheTablesHaveIt reads a package of one resource.
func TestATypeIsWrittenAsTheTablesHaveIt(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{
		"package.json":    "{}",
		"cjs/shared.d.ts": "export interface Place { city: string | null; }",
		"cjs/resources/V2/Things.js": "class Things extends Resource {\n    create(params, options) {\n        return this._makeRequest('POST', '/v2/things', params, options);\n    }\n" +
			"    list(params, options) {\n        return this._makeRequest('GET', `/v2/things/${encodeURIComponent(id)}/parts`, params, options, {});\n    }\n}\n",
		"cjs/resources/V2/Things.d.ts": `
import { Place as Spot } from './../../shared.js';
/** The resource. */
export declare class Things extends Resource {
    create(params: V2.ThingCreateParams, options?: RequestOptions): Promise<Response<Thing>>;
    list(params?: V2.ThingListParams, options?: RequestOptions): V2ListPromise<Thing>;
}
export interface Thing {
    id: string; // its name
    at?: Spot;
    kind: Thing.Kind;
    parts: Array<Thing.Part>;
    notes: { [key: string]: string; };
}
export declare namespace Thing {
    type Kind = 'small' | 'large' | OtherString;
    interface Part { weight: number; loose?: boolean; }
}
export declare namespace V2 {
    interface ThingCreateParams { kind: ThingCreateParams.Kind; limit?: Emptyable<number>; }
    namespace ThingCreateParams { type Kind = 'small'; }
}
export declare namespace V2 {
    interface ThingListParams { limit?: number; }
}`,
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p, err := Open(root)
	if err != nil {
		t.Fatal(err)
	}
	got, err := p.Operations()
	if err != nil {
		t.Fatal(err)
	}
	thing := "{at:{city!:s_} id!:s kind!:(small|large) notes!:m parts!:[{loose:b weight!:i}]}"
	want := []Operation{
		{"POST", "/v2/things", "{kind!:(small) limit:_i}", thing},
		{"GET", "/v2/things/{id}/parts", "{limit:i}", "{data!:[" + thing + "] next_page_url:_s previous_page_url:_s}"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestWhatRecursIsSharedOnce(t *testing.T) {
	part := "{first_of_the_names!:s second_of_the_names:i third_of_the_names:b}"
	tables := Tables([]Operation{{"POST", "/v2/a", "{x:" + part + " y:[" + part + "]}", "{}"}})
	want := head("parameters") + "#1 " + part + "\nPOST /v2/a {x:#1 y:[#1]}\n"
	if diff := cmp.Diff(want, tables["sandbox/params_v2.txt"]); diff != "" {
		t.Error(diff)
	}
}

func TestAnUnknownTypeAndABrokenFileAreErrors(t *testing.T) {
	f, err := parse("export interface A { b: Nowhere; }")
	if err != nil {
		t.Fatal(err)
	}
	w := writer{pkg: &Package{files: map[string]*file{}}}
	if w.write(&expr{name: "A"}, f.scope); w.err == nil {
		t.Error("a type that is not declared was written")
	}
	if _, err := parse("export interface A { b string }"); err == nil {
		t.Error("a field without a type was read")
	}
	if _, err := Open(t.TempDir()); err == nil {
		t.Error("an empty folder was opened")
	}
}
