package upstream

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// sentForm is a request as it is kept with its reservation: sent again on a retry, and read later by whoever asks
// the vendor what became of it. Never with credentials.
type sentForm struct {
	Method string      `json:"m"`
	Path   string      `json:"p"`
	Query  string      `json:"q,omitempty"`
	Body   string      `json:"b,omitempty"`
	Header http.Header `json:"h,omitempty"`
	Key    string      `json:"k,omitempty"`
	Host   string      `json:"o,omitempty"`
}

// EncodeSent writes a request as it is kept with its reservation. An upload is not kept.
func EncodeSent(r *Request) ([]byte, error) {
	sent, err := json.Marshal(sentForm{r.Method, r.Path, r.Query, string(r.Body), r.Header, r.IdempotencyKey, r.Host})
	if err != nil {
		return nil, fmt.Errorf("encode the request: %w", err)
	}
	return sent, nil
}

// DecodeSent reads what EncodeSent wrote.
func DecodeSent(b []byte) (*Request, error) {
	var s sentForm
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("decode the stored request: %w", err)
	}
	return &Request{
		Method: s.Method, Path: s.Path, Query: s.Query, Body: []byte(s.Body), Header: s.Header, IdempotencyKey: s.Key, Host: s.Host,
	}, nil
}
