package extstore_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfastdb/holdfast/backupccl/extstore"
	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// answerS3 starts a service that answers every request alike, and returns the URI
// of a bucket of it and the number of requests.
func answerS3(t *testing.T, status int, header http.Header, code, message string) (string, *atomic.Int64) {
	var requests atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		_, _ = io.Copy(io.Discard, r.Body)
		for k, v := range header {
			w.Header()[k] = v
		}
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(status)
		if r.Method != http.MethodHead {
			fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>%s</Message></Error>`, code, message)
		}
	}))
	t.Cleanup(srv.Close)
	return "s3://b1/place?AWS_ACCESS_KEY_ID=id&AWS_SECRET_ACCESS_KEY=hunter2&AWS_ENDPOINT=" + url.QueryEscape(srv.URL), &requests
}

// operations are all that one can ask of a store.
var operations = []struct {
	name string
	run  func(ctx context.Context, s extstore.Store) error
}{
	{"put", func(ctx context.Context, s extstore.Store) error {
		return s.Put(ctx, "x", bytes.NewReader([]byte("y")))
	}},
	{"put large", func(ctx context.Context, s extstore.Store) error {
		return s.Put(ctx, "x", bytes.NewReader(make([]byte, 9<<20)))
	}},
	{"open", func(ctx context.Context, s extstore.Store) error {
		r, err := s.Open(ctx, "x", 0, -1)
		if err != nil {
			return err
		}
		defer r.Close()
		_, err = io.ReadAll(r)
		return err
	}},
	{"list", func(ctx context.Context, s extstore.Store) error {
		return s.List(ctx, "", "", func(string) error { return nil })
	}},
	{"delete", func(ctx context.Context, s extstore.Store) error { return s.Delete(ctx, "x") }},
	{"size", func(ctx context.Context, s extstore.Store) error { _, err := s.Size(ctx, "x"); return err }},
}

// TestRefusedForGood: what a service refuses for good is not asked again, and the
// error has a SQLSTATE, the service's words, the place and no secret.
func TestRefusedForGood(t *testing.T) {
	for _, c := range []struct {
		status        int
		header        http.Header
		code, message string
		sqlstate      pgerr.Code
		hint          string
	}{
		{403, nil, "SignatureDoesNotMatch", "The request signature we calculated does not match.", pgerr.IOError, "credentials"},
		{403, nil, "InvalidAccessKeyId", "The access key does not exist.", pgerr.IOError, "credentials"},
		{403, nil, "AccessDenied", "Access Denied.", pgerr.IOError, "credentials"},
		{401, nil, "Unauthorized", "Who are you?", pgerr.IOError, "credentials"},
		{400, nil, "ExpiredToken", "The provided token has expired.", pgerr.IOError, "credentials"},
		{400, nil, "AuthorizationHeaderMalformed", "The region 'us-east-1' is wrong; expecting 'eu-west-3'", pgerr.IOError, "AWS_REGION"},
		{301, http.Header{"X-Amz-Bucket-Region": {"eu-west-3"}}, "PermanentRedirect", "The bucket must be addressed using another endpoint.", pgerr.IOError, "AWS_REGION"},
		{404, nil, "XAdminUserNotFound", "No user exists with the provided access key ID.", pgerr.IOError, "credentials"},
		{501, nil, "NotImplemented", "A header implies functionality that is not implemented.", pgerr.IOError, ""},
	} {
		for _, op := range operations {
			if c.status == http.StatusNotFound && (op.name == "size" || op.name == "delete") {
				continue // A look that is answered without a body just finds nothing.
			}
			t.Run(fmt.Sprintf("%s/%s", c.code, op.name), func(t *testing.T) {
				t.Parallel()
				uri, requests := answerS3(t, c.status, c.header, c.code, c.message)
				s := openFactory(t, uri, func(cfg *extstore.Config) { cfg.Retry = extstore.DefaultRetryPolicy })
				ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
				defer cancel()
				began := time.Now()
				err := op.run(ctx, s)
				if err == nil {
					t.Fatal("no error")
				}
				if took := time.Since(began); took > 3*time.Second || requests.Load() > 3 {
					t.Errorf("%d requests in %s", requests.Load(), took)
				}
				if extstore.IsRetryable(err) {
					t.Errorf("can be retried: %v", err)
				}
				if got := pgerr.GetCode(err); got != c.sqlstate {
					t.Errorf("SQLSTATE %s, want %s", got, c.sqlstate)
				}
				text := err.Error()
				if strings.Contains(text, "hunter2") || !strings.Contains(text, "s3://b1/place") {
					t.Errorf("text: %s", text)
				}
				if !strings.Contains(text, c.code+": "+c.message) {
					t.Errorf("text lacks the service's words: %s", text)
				}
				if hint := pgerr.Flatten(err).Hint; !strings.Contains(hint, c.hint) {
					t.Errorf("hint: %s", hint)
				}
			})
		}
	}
}

// TestRefusedForNow: what may pass soon is asked again.
func TestRefusedForNow(t *testing.T) {
	for _, c := range []struct {
		status int
		code   string
	}{{503, "SlowDown"}, {500, "InternalError"}, {400, "RequestTimeout"}, {429, "TooManyRequests"}, {307, "TemporaryRedirect"}} {
		for _, op := range operations[2:4] {
			t.Run(c.code+"/"+op.name, func(t *testing.T) {
				t.Parallel()
				uri, requests := answerS3(t, c.status, nil, c.code, "later")
				s := openFactory(t, uri, func(cfg *extstore.Config) { cfg.Retry.MaxAttempts = 2 })
				if err := op.run(t.Context(), s); err == nil || !extstore.IsRetryable(err) || !strings.Contains(err.Error(), "gave up after 2 attempts") {
					t.Errorf("%d requests, %v", requests.Load(), err)
				}
			})
		}
	}
}

// TestRedirectIsNotFollowed: neither data nor credentials go to where an answer
// points.
func TestRedirectIsNotFollowed(t *testing.T) {
	for _, status := range []int{301, 302, 307, 308} {
		other, asked := answerS3(t, 200, nil, "", "")
		_, rest, _ := strings.Cut(other, "AWS_ENDPOINT=")
		location, err := url.QueryUnescape(rest)
		if err != nil {
			t.Fatal(err)
		}
		uri, _ := answerS3(t, status, http.Header{"Location": {location + "/b1/place/x"}}, "Redirect", "over there")
		s := openFactory(t, uri, func(cfg *extstore.Config) { cfg.Retry.MaxAttempts = 1 })
		for _, op := range operations {
			if err := op.run(t.Context(), s); err == nil {
				t.Errorf("%d: %s succeeded", status, op.name)
			}
		}
		if n := asked.Load(); n > 0 {
			t.Errorf("%d: the other place was asked %d times", status, n)
		}
	}
}
