package admin

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// maxAnswer bounds what the client reads of one answer; exports are streamed and have no bound.
const maxAnswer = 64 << 20

// ErrUnreachable says that the server gave no answer.
var ErrUnreachable = errors.New("the server was not reached")

// Problem is an answer that is not a success.
type Problem struct {
	Status int
	Detail string // for people
	// Fields are the parts of the request that are wrong, as far as the server says which.
	Fields []Field
}

// Error returns the detail.
func (p *Problem) Error() string {
	if p.Detail == "" {
		return fmt.Sprintf("the server answered %d", p.Status)
	}
	return p.Detail
}

// Client calls the admin API. It never follows a redirect and uses no proxy: the token goes to one server.
// Safe for concurrent use. Errors are *Problem, or wrap ErrUnreachable.
type Client struct {
	base  string
	token string
	http  *http.Client
}

// NewClient makes a client for a server's admin URL ("http://127.0.0.1:8788").
func NewClient(adminURL, token string) (*Client, error) {
	u, err := url.Parse(adminURL)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, fmt.Errorf("the admin URL %q must be like http://127.0.0.1:8788", adminURL)
	}
	return &Client{
		base:  strings.TrimSuffix(u.Scheme+"://"+u.Host+u.Path, "/") + prefix,
		token: token,
		http: &http.Client{
			Transport:     &http.Transport{Proxy: nil, TLSHandshakeTimeout: 10 * time.Second, DisableCompression: true},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// header is one of a request's.
type header struct{ name, value string }

// send makes one request; the caller closes the answer's body.
func (c *Client) send(ctx context.Context, method, path string, query url.Values, contentType string, body io.Reader, more ...header) (*http.Response, error) {
	target := c.base + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, fmt.Errorf("build the request: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	for _, h := range more {
		req.Header.Set(h.name, h.value)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	if resp.StatusCode >= 300 {
		defer resp.Body.Close() //nolint:errcheck // it was only read
		p := &Problem{Status: resp.StatusCode}
		text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
		}
		p.read(text)
		return nil, p
	}
	return resp, nil
}

// read takes what a problem document says. What its fields say is added to the words for people, unless it is there.
func (p *Problem) read(text []byte) {
	var doc struct {
		Detail string  `json:"detail"`
		Errors []Field `json:"errors"`
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		return // not a server of ours; its status says enough
	}
	p.Detail, p.Fields = doc.Detail, doc.Errors
	for _, f := range doc.Errors {
		if !strings.Contains(doc.Detail, f.Message) {
			p.Detail += "; " + strings.TrimSpace(f.Location+" "+f.Message)
		}
	}
}

// call makes one request with JSON in and out; in may be nil.
func call[O any](ctx context.Context, c *Client, method, path string, query url.Values, in any, more ...header) (out O, err error) {
	var body io.Reader
	var contentType string
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return out, fmt.Errorf("encode the request: %w", err)
		}
		body, contentType = bytes.NewReader(b), "application/json"
	}
	return receive[O](c.send(ctx, method, path, query, contentType, body, more...))
}

func receive[O any](resp *http.Response, err error) (out O, _ error) {
	if err != nil {
		return out, err
	}
	defer resp.Body.Close() //nolint:errcheck // it was only read
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return out, fmt.Errorf("%w: its answer broke off: %w", ErrUnreachable, err)
	}
	if err := json.Unmarshal(b, &out); err != nil {
		return out, fmt.Errorf("the answer is not Keybrake's (is KEYBRAKE_ADMIN_URL right?): %w", err)
	}
	return out, nil
}

func seg(s string) string { return url.PathEscape(s) }

// Status calls Service.Status.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return call[Status](ctx, c, http.MethodGet, "status", nil, nil)
}

// Overview calls Service.Overview.
func (c *Client) Overview(ctx context.Context) (Overview, error) {
	return call[Overview](ctx, c, http.MethodGet, "overview", nil, nil)
}

// Standings calls Service.Standings: one page.
func (c *Client) Standings(ctx context.Context, f StandingFilter) (List[KeyStanding], error) {
	v := f.values()
	for name, value := range map[string]string{"search": f.Search, "brake": f.Brake, "mode": f.Mode, "sort": f.Sort} {
		if value != "" {
			v.Set(name, value)
		}
	}
	return call[List[KeyStanding]](ctx, c, http.MethodGet, "standings", v, nil)
}

// edit changes a resource if its version is the one that the edit was made for; an empty one stands for any.
func edit[O any](ctx context.Context, c *Client, method, path, ifMatch string, in any) (O, error) {
	return call[O](ctx, c, method, path, nil, in, condition(ifMatch))
}

func condition(ifMatch string) header { return header{"If-Match", cmp.Or(ifMatch, anyVersion)} }

// UpdateUpstream calls Service.UpdateUpstream.
func (c *Client) UpdateUpstream(ctx context.Context, name string, req UpstreamUpdate) (UpstreamView, error) {
	return edit[UpstreamView](ctx, c, http.MethodPatch, "upstreams/"+seg(name), req.IfMatch, req)
}

// RemoveUpstream calls Service.RemoveUpstream.
func (c *Client) RemoveUpstream(ctx context.Context, name string) error {
	_, err := call[Done](ctx, c, http.MethodDelete, "upstreams/"+seg(name), nil, nil)
	return err
}

// Upstream calls Service.Upstream.
func (c *Client) Upstream(ctx context.Context, idOrName string) (UpstreamView, error) {
	return call[UpstreamView](ctx, c, http.MethodGet, "upstreams/"+seg(idOrName), nil, nil)
}

// Upstreams calls Service.Upstreams: all of them.
func (c *Client) Upstreams(ctx context.Context) (List[UpstreamView], error) {
	return whole[UpstreamView](ctx, c, "upstreams")
}

func (f KeyFilter) values() url.Values {
	v := url.Values{}
	set := func(name, value string) {
		if value != "" {
			v.Set(name, value)
		}
	}
	set("match", f.Match)
	set("upstream", f.Upstream)
	set("after", f.After)
	if f.Revoked {
		v.Set("revoked", "true")
	}
	if f.Limit > 0 {
		v.Set("limit", strconv.Itoa(f.Limit))
	}
	return v
}

// Keys calls Service.Keys: one page.
func (c *Client) Keys(ctx context.Context, f KeyFilter) (List[KeyView], error) {
	return call[List[KeyView]](ctx, c, http.MethodGet, "keys", f.values(), nil)
}

// Key calls Service.Key.
func (c *Client) Key(ctx context.Context, idOrName string) (KeyDetail, error) {
	return call[KeyDetail](ctx, c, http.MethodGet, "keys/"+seg(idOrName), nil, nil)
}

// UpdateKey calls Service.UpdateKey.
func (c *Client) UpdateKey(ctx context.Context, idOrName string, req KeyUpdate) (KeyChanged, error) {
	return edit[KeyChanged](ctx, c, http.MethodPatch, "keys/"+seg(idOrName), req.IfMatch, req)
}

// Kill calls Service.Kill.
func (c *Client) Kill(ctx context.Context, req KillRequest) (KillAnswer, error) {
	return call[KillAnswer](ctx, c, http.MethodPost, "kill", nil, req)
}

// Resume calls Service.Resume.
func (c *Client) Resume(ctx context.Context, req ResumeRequest) (ResumeAnswer, error) {
	return call[ResumeAnswer](ctx, c, http.MethodPost, "resume", nil, req)
}

// Brakes calls Service.Brakes.
func (c *Client) Brakes(ctx context.Context) (BrakeList, error) {
	return call[BrakeList](ctx, c, http.MethodGet, "brakes", nil, nil)
}

// Spend calls Service.Spend: one page.
func (c *Client) Spend(ctx context.Context, f KeyFilter) (Spend, error) {
	return call[Spend](ctx, c, http.MethodGet, "spend", f.values(), nil)
}

// SetRates calls Service.SetRates.
func (c *Client) SetRates(ctx context.Context, req RateInputs) (RateTable, error) {
	return edit[RateTable](ctx, c, http.MethodPost, "rates", req.IfMatch, req)
}

// ImportRates calls Service.ImportRates.
func (c *Client) ImportRates(ctx context.Context, file io.Reader, ifMatch string) (RateTable, error) {
	return receive[RateTable](c.send(ctx, http.MethodPost, "rates/import", nil, "text/csv", file, condition(ifMatch)))
}

// Rates calls Service.ListRates.
func (c *Client) Rates(ctx context.Context) (RateTable, error) {
	return call[RateTable](ctx, c, http.MethodGet, "rates", nil, nil)
}

func (f AuditFilter) values() url.Values {
	v := url.Values{}
	for name, value := range map[string]string{
		"key": f.Key, "operation": f.Operation, "resource": f.Resource, "verdict": f.Verdict, "code": f.Code,
		"customer": f.Customer, "call": f.Call, "agent": f.Agent, "min_usd": f.MinUSD, "max_usd": f.MaxUSD, "after": f.After,
		"text": f.Text,
	} {
		if value != "" {
			v.Set(name, value)
		}
	}
	if f.Limit > 0 {
		v.Set("limit", strconv.Itoa(f.Limit))
	}
	if f.Ascending {
		v.Set("ascending", "true")
	}
	if f.Deeds {
		v.Set("deeds", "true")
	}
	if f.Scan > 0 {
		v.Set("scan", strconv.Itoa(f.Scan))
	}
	for name, t := range map[string]time.Time{"since": f.Since, "until": f.Until} {
		if !t.IsZero() {
			v.Set(name, t.UTC().Format(time.RFC3339Nano))
		}
	}
	return v
}

// Audit calls Service.Audit: one page.
func (c *Client) Audit(ctx context.Context, f AuditFilter) (List[json.RawMessage], error) {
	return call[List[json.RawMessage]](ctx, c, http.MethodGet, "audit", f.values(), nil)
}

// AuditRecord calls Service.AuditRecord.
func (c *Client) AuditRecord(ctx context.Context, id string) (List[json.RawMessage], error) {
	return call[List[json.RawMessage]](ctx, c, http.MethodGet, "audit/records/"+seg(id), nil, nil)
}

// VerifyAudit calls Service.VerifyAudit.
func (c *Client) VerifyAudit(ctx context.Context) (Verification, error) {
	return call[Verification](ctx, c, http.MethodGet, "audit/verify", nil, nil)
}

// ExportAudit writes an export in a format (jsonl or csv) to w. An error after the first byte means that the
// export is not whole.
func (c *Client) ExportAudit(ctx context.Context, f AuditFilter, format string, w io.Writer) error {
	v := f.values()
	v.Set("format", format)
	return c.copy(ctx, "audit/export", v, w)
}

// TailAudit writes the last n records and then every new one, a line each, until ctx ends.
func (c *Client) TailAudit(ctx context.Context, f AuditFilter, n int, w io.Writer) error {
	v := f.values()
	v.Set("lines", strconv.Itoa(n))
	err := c.copy(ctx, "audit/tail", v, w)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (c *Client) copy(ctx context.Context, path string, query url.Values, w io.Writer) error {
	resp, err := c.send(ctx, http.MethodGet, path, query, "", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // it was only read
	if _, err := io.Copy(w, resp.Body); err != nil {
		return fmt.Errorf("%w: its answer broke off: %w", ErrUnreachable, err)
	}
	return nil
}

// VerifyKey calls Service.VerifyKey; tell hears how far it is.
func (c *Client) VerifyKey(ctx context.Context, idOrName string, o VerifyOptions, tell func(Progress)) (VerifyKeyReport, error) {
	return verification[VerifyKeyReport](ctx, c, "keys/"+seg(idOrName)+"/verify", o, tell)
}

// VerifyUpstream calls Service.VerifyUpstream; tell hears how far it is.
func (c *Client) VerifyUpstream(ctx context.Context, idOrName string, o VerifyOptions, tell func(Progress)) (VerifyUpstreamReport, error) {
	return verification[VerifyUpstreamReport](ctx, c, "upstreams/"+seg(idOrName)+"/verify", o, tell)
}

// Statement calls Service.Statement; tell hears how many pages of the vendor's books were read.
func (c *Client) Statement(ctx context.Context, upstream string, req StatementRequest, tell func(Progress)) (Statement, error) {
	return verification[Statement](ctx, c, "upstreams/"+seg(upstream)+"/statement", req, tell)
}

// verification reads the lines of a long answer to its report.
func verification[R any](ctx context.Context, c *Client, path string, in any, tell func(Progress)) (report R, err error) {
	body, err := json.Marshal(in)
	if err != nil {
		return report, fmt.Errorf("encode the request: %w", err)
	}
	resp, err := c.send(ctx, http.MethodPost, path, nil, "application/json", bytes.NewReader(body))
	if err != nil {
		return report, err
	}
	defer resp.Body.Close() //nolint:errcheck // it was only read
	for lines := json.NewDecoder(resp.Body); ; {
		var line verifyLine
		switch err := lines.Decode(&line); {
		case err != nil:
			return report, fmt.Errorf("%w: its answer broke off: %w", ErrUnreachable, err)
		case line.Problem != "":
			return report, &Problem{Status: http.StatusConflict, Detail: line.Problem}
		case line.Progress != nil:
			tell(*line.Progress)
		default:
			if err := json.Unmarshal(line.Report, &report); err != nil {
				return report, fmt.Errorf("read the report: %w", err)
			}
			return report, nil
		}
	}
}
