package admin

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// anyVersion is the If-Match of who means the resource as it is, whatever that is.
const anyVersion = "*"

// entityTag names a version of what operators edit by all that an edit could change. Who goes back to what was has the old
// tag again: an edit that was begun then is not about anything that was lost.
func entityTag(parts ...any) string {
	text, err := json.Marshal(parts)
	if err != nil {
		panic("admin: an entity tag of what cannot be written: " + err.Error()) // all parts are plain values
	}
	sum := sha256.Sum256(text)
	return `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
}

// unchanged refuses an edit that was made for another version than the present one. An empty ifMatch is an edit from within
// the process, which is about the present one.
func unchanged(what, ifMatch, present string) error {
	if ifMatch == "" || ifMatch == anyVersion {
		return nil
	}
	for tag := range strings.SplitSeq(ifMatch, ",") {
		if strings.TrimSpace(tag) == present { // a weak tag is none: what matters here is every letter
			return nil
		}
	}
	return refuse(Stale, "%s was changed since you read it, so nothing was done; read it again (its version is %s now) and make the change on what it says there", what, present).at("header.If-Match")
}

// Condition is the header of an edit that says which version it was made for. It is exported because only such embedded
// fields are read from requests.
type Condition struct {
	IfMatch string `header:"If-Match" doc:"required: the ETag of the version that the edit was made for, or * for whichever is the present one"`
}

// given is the condition; an edit without one is refused.
func (c Condition) given() (string, error) {
	if strings.TrimSpace(c.IfMatch) == "" {
		return "", refuse(Unversioned, "say which version the edit was made for: send its ETag as If-Match, or * for whichever is the present one").at("header.If-Match")
	}
	return c.IfMatch, nil
}

// versioned is an answer about one resource, with its version.
type versioned[T any] struct {
	ETag string `header:"ETag" doc:"version of the resource, for If-Match"`
	Body T
}

// tagged are answers that know their version.
type tagged interface{ tag() string }

func (v KeyDetail) tag() string    { return v.ETag }
func (v KeyChanged) tag() string   { return v.ETag }
func (v UpstreamView) tag() string { return v.ETag }
func (v Operator) tag() string     { return v.ETag }
func (v RateTable) tag() string    { return v.ETag }

// handleVersioned registers an operation that reads one resource.
func handleVersioned[I any, O tagged](a *api, r route, f func(context.Context, Actor, *I) (O, error)) {
	registerVersioned(a, r, a.operation(r), f)
}

// handleEdit registers an operation that changes one resource. f hears which version the change was made for.
func handleEdit[I any, C interface {
	*I
	given() (string, error)
}, O tagged](a *api, r route, f func(ctx context.Context, who Actor, in *I, ifMatch string) (O, error)) {
	op := a.operation(r)
	edits(&op)
	registerVersioned(a, r, op, func(ctx context.Context, who Actor, in *I) (out O, err error) {
		ifMatch, err := C(in).given()
		if err != nil {
			return out, err
		}
		return f(ctx, who, in, ifMatch)
	})
}

func registerVersioned[I any, O tagged](a *api, r route, op huma.Operation, f func(context.Context, Actor, *I) (O, error)) {
	huma.Register(a.huma, op, func(ctx context.Context, in *I) (*versioned[O], error) {
		out, err := f(ctx, actorOf(ctx), in)
		if err != nil {
			return nil, a.s.problem(r.id, err)
		}
		a.spread(ctx, r)
		return &versioned[O]{out.tag(), out}, nil
	})
}
