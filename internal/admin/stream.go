package admin

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

func newReader(b []byte) io.Reader { return bytes.NewReader(b) }

// The forms of answers that are written piece by piece.
const (
	jsonLines  = "application/x-ndjson"
	sqliteFile = "application/vnd.sqlite3"
)

// writing writes a stream's body. An error ends the connection, so that the client sees it.
type writing func(ctx context.Context, w http.ResponseWriter) error

// stream registers an operation whose answer is written piece by piece, in one of some forms.
func stream[I any](a *api, r route, prepare func(context.Context, Actor, *I) (contentType string, write writing, err error), forms ...string) {
	op := a.operation(r)
	streamed(&op, forms...)
	huma.Register(a.huma, op, func(ctx context.Context, in *I) (*huma.StreamResponse, error) {
		contentType, write, err := prepare(ctx, actorOf(ctx), in)
		if err != nil {
			return nil, a.s.problem(r.id, err)
		}
		return &huma.StreamResponse{Body: func(hctx huma.Context) {
			_, w := humago.Unwrap(hctx)
			// A whole audit takes longer than any deadline that suits other answers.
			_ = http.NewResponseController(w).SetWriteDeadline(time.Time{}) // not every writer has one
			w.Header().Set("Content-Type", contentType)
			if err := write(ctx, w); err != nil {
				a.s.Log.Error("a stream broke off", "operation", r.id, "error", err)
				panic(http.ErrAbortHandler) // a cut answer must not look like a whole one
			}
		}}, nil
	})
}

func (a *api) export(ctx context.Context, _ Actor, in *auditQuery) (string, writing, error) {
	f, err := a.asked(ctx, in)
	if err != nil {
		return "", nil, err
	}
	x, err := a.s.PrepareExport(ctx, f)
	if err != nil {
		return "", nil, err
	}
	if in.Format == "csv" {
		return "text/csv; charset=utf-8", func(_ context.Context, w http.ResponseWriter) error { return x.WriteCSV(w) }, nil
	}
	return jsonLines, func(_ context.Context, w http.ResponseWriter) error { return x.WriteJSONL(w) }, nil
}

func (a *api) tail(ctx context.Context, _ Actor, in *auditQuery) (string, writing, error) {
	f, err := a.asked(ctx, in)
	if err == nil {
		_, err = a.s.search(ctx, f) // what is wrong with it is said before the stream begins
	}
	if err != nil {
		return "", nil, err
	}
	return jsonLines, func(ctx context.Context, w http.ResponseWriter) error {
		return a.s.TailAudit(ctx, w, f, in.Lines, func() {
			_ = http.NewResponseController(w).Flush() // the client went away: the next write tells
		})
	}, nil
}
