package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/millrace-io/millrace/broker/admin/api"
)

// ErrUnreachable: no address accepted a connection. Nothing was asked of
// anybody; check the addresses, or that the broker runs.
var ErrUnreachable = errors.New("no admin API reachable")

// answerBytesMax bounds an answer: a status of some 100,000 partitions.
const answerBytesMax = 64 << 20

// Client asks one of several brokers.
type Client struct {
	addrs []string
	http  *http.Client
	reads *http.Client // which waits no longer than AnswerTimeout
}

// Options say whom to ask.
type Options struct {
	Addrs       []string      // HOST:PORT, or http://HOST:PORT
	DialTimeout time.Duration // per address; 0 is 3 s
	// AnswerTimeout is how long one may take to answer what changes nothing; 0 is 30 s.
	AnswerTimeout time.Duration
}

// New checks the addresses; it connects to nobody yet.
func New(o Options) (*Client, error) {
	if len(o.Addrs) == 0 {
		return nil, errors.New("admin client: no address given")
	}
	if o.DialTimeout <= 0 {
		o.DialTimeout = 3 * time.Second
	}
	if o.AnswerTimeout <= 0 {
		o.AnswerTimeout = 30 * time.Second
	}
	c := &Client{}
	for _, a := range o.Addrs {
		base, err := baseURL(a)
		if err != nil {
			return nil, err
		}
		c.addrs = append(c.addrs, base)
	}
	dial := net.Dialer{Timeout: o.DialTimeout}
	transport := &http.Transport{DialContext: dial.DialContext, DisableCompression: true}
	c.http = &http.Client{Transport: transport}
	transport = transport.Clone()
	transport.ResponseHeaderTimeout = o.AnswerTimeout
	c.reads = &http.Client{Transport: transport}
	return c, nil
}

func baseURL(addr string) (string, error) {
	if !strings.Contains(addr, "://") {
		addr = "http://" + addr
	}
	u, err := url.Parse(addr)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", fmt.Errorf("admin address %q: want HOST:PORT", addr)
	}
	return u.Scheme + "://" + u.Host, nil
}

// call is one request; its body, if any, can be sent more than once.
type call struct {
	method, path string
	query        url.Values
	body         []byte
	contentType  string
	read         bool // it changes nothing and its answer is no stream
}

// do sends the call to the first address that takes a connection. What is read is asked of the
// next also where one does not answer, as a node that is starting.
func (c *Client) do(ctx context.Context, k call) (*http.Response, error) {
	var tried []string
	for _, base := range c.addrs {
		target := base + k.path
		if len(k.query) > 0 {
			target += "?" + k.query.Encode()
		}
		r, err := http.NewRequestWithContext(ctx, k.method, target, bytes.NewReader(k.body))
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", k.method, target, err)
		}
		if k.contentType != "" {
			r.Header.Set("Content-Type", k.contentType)
		}
		to := c.http
		if k.read {
			to = c.reads
		}
		resp, err := to.Do(r)
		if err == nil {
			return resp, refusal(resp)
		}
		var dial *net.OpError
		var late interface{ Timeout() bool }
		why := ""
		switch {
		case ctx.Err() != nil:
		case errors.As(err, &dial) && dial.Op == "dial":
			why = dial.Err.Error()
		case to == c.reads && errors.As(err, &late) && late.Timeout():
			why = "no answer"
		}
		if why == "" {
			return nil, fmt.Errorf("ask the admin API: %w", err)
		}
		tried = append(tried, fmt.Sprintf("%s (%s)", strings.TrimPrefix(base, "http://"), why))
	}
	return nil, fmt.Errorf("%w: tried %s", ErrUnreachable, strings.Join(tried, ", "))
}

// refusal turns a status of 400 and above into an error of its kind.
func refusal(resp *http.Response) error {
	if resp.StatusCode < 400 || resp.StatusCode == http.StatusServiceUnavailable && resp.Request.URL.Path == "/v1/status/ready" {
		return nil
	}
	defer resp.Body.Close()
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	var p struct {
		api.Problem
		Errors []struct {
			Message  string `json:"message"`
			Location string `json:"location"`
		} `json:"errors"`
	}
	detail := strings.TrimSpace(string(raw))
	if json.Unmarshal(raw, &p) == nil && p.Detail != "" {
		detail = p.Detail
		for _, e := range p.Errors {
			detail += fmt.Sprintf("; %s: %s", e.Location, e.Message)
		}
	}
	if detail == "" {
		detail = resp.Status
	}
	return &Refusal{Status: resp.StatusCode, Detail: detail}
}

// Refusal is an answer with an error status. It unwraps to its kind in api.
type Refusal struct {
	Status int
	Detail string
}

func (r *Refusal) Error() string { return r.Detail }

// Unwrap gives the kind of refusal, or nil for those without one.
func (r *Refusal) Unwrap() error {
	switch r.Status {
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		return api.ErrInvalid
	case http.StatusNotFound:
		return api.ErrNotFound
	case http.StatusConflict:
		return api.ErrConflict
	case http.StatusRequestEntityTooLarge:
		return api.ErrTooLarge
	case http.StatusServiceUnavailable:
		return api.ErrUnavailable
	case http.StatusGatewayTimeout:
		return api.ErrTimedOut
	}
	return nil
}

// get reads the answer of a call into v; v nil ignores it.
func (c *Client) get(ctx context.Context, k call, v any) error {
	k.read = k.method == http.MethodGet
	resp, err := c.do(ctx, k)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if v == nil || resp.StatusCode == http.StatusNoContent {
		return nil
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, answerBytesMax))
	if err != nil {
		return fmt.Errorf("read the answer of %s: %w", resp.Request.URL, err)
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("the answer of %s is not of the admin API (%v): is another program listening there?", resp.Request.URL, err)
	}
	return nil
}

func withJSON(method, path string, body any) (call, error) {
	b, err := json.Marshal(body)
	return call{method: method, path: path, body: b, contentType: "application/json"}, err
}
