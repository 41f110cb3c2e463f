package admin

import (
	"context"
	"net/http"
	"net/url"
	"slices"

	"github.com/danielgtaylor/huma/v2"
)

// maxPage is the most items in one answer, and the default.
const maxPage = 1000

// List is one page of a listing. Next is given back as `after` for the next page; empty on the last one.
type List[T any] struct {
	Items []T    `json:"items" nullable:"false"`
	Next  string `json:"next" doc:"give it back as after for the next page; empty: this is the last one"`
}

// Paging says which page of a listing is meant. It is exported because only such embedded fields are read from requests.
type Paging struct {
	After string `query:"after" doc:"a page's next: go on after it"`
	Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"1000" doc:"the most items in the answer"`
}

func (p Paging) paging() Paging { return p }

// cut cuts a page out of a listing; id is what its items are known by. A page whose last item is gone meanwhile has none
// after it that could be told: the listing is begun again.
func cut[T any](all []T, p Paging, id func(T) string) (List[T], error) {
	out := List[T]{Items: all}
	if out.Items == nil {
		out.Items = []T{}
	}
	if p.After != "" {
		i := slices.IndexFunc(all, func(item T) bool { return id(item) == p.After })
		if i < 0 {
			return List[T]{Items: []T{}}, wrong("query.after", "the page %q is gone; start again from the first", p.After)
		}
		out.Items = all[i+1:]
	}
	limit := p.Limit
	if limit <= 0 || limit > maxPage {
		limit = maxPage
	}
	if len(out.Items) > limit {
		out.Items, out.Next = out.Items[:limit], id(out.Items[limit-1])
	}
	return out, nil
}

// handleList registers a listing that the server has whole, page by page.
func handleList[I interface{ paging() Paging }, T any](a *api, r route, id func(T) string, list func(context.Context, Actor, *I) ([]T, error)) {
	huma.Register(a.huma, a.operation(r), func(ctx context.Context, in *I) (*body[List[T]], error) {
		all, err := list(ctx, actorOf(ctx), in)
		if err != nil {
			return nil, a.s.problem(r.id, err)
		}
		page, err := cut(all, (*in).paging(), id)
		if err != nil {
			return nil, a.s.problem(r.id, err)
		}
		return &body[List[T]]{page}, nil
	})
}

// whole reads a listing to its end, page by page.
func whole[T any](ctx context.Context, c *Client, path string) (List[T], error) {
	out := List[T]{Items: []T{}}
	query := url.Values{}
	for {
		page, err := call[List[T]](ctx, c, http.MethodGet, path, query, nil)
		if err != nil {
			return List[T]{}, err
		}
		out.Items = append(out.Items, page.Items...)
		if page.Next == "" {
			return out, nil
		}
		query.Set("after", page.Next)
	}
}
