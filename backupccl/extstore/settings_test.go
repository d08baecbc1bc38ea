package extstore_test

import (
	"bytes"
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/holdfastdb/holdfast/backupccl/extstore"
	"github.com/holdfastdb/holdfast/internal/settings"
)

// withSettings opens a store under cluster settings.
func withSettings(t *testing.T, uri string, values map[string]string) extstore.Store {
	t.Helper()
	reg := settings.NewRegistry()
	set := extstore.RegisterSettings(reg)
	rows := map[string]string{}
	for name, text := range values {
		s, ok := reg.Lookup(name)
		if !ok {
			t.Fatalf("no setting %s", name)
		}
		enc, err := s.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		rows[name] = enc
	}
	if err := reg.Apply(rows); err != nil {
		t.Fatal(err)
	}
	return openFactory(t, uri, func(c *extstore.Config) { c.Settings, c.Retry.MaxAttempts = set, 1 })
}

func s3URI(endpoint string) string {
	return "s3://b1/place?AWS_ACCESS_KEY_ID=id&AWS_SECRET_ACCESS_KEY=secret&AWS_ENDPOINT=" + url.QueryEscape(endpoint)
}

func TestUploadSettings(t *testing.T) {
	for _, c := range []struct {
		values map[string]string
		parts  int
	}{
		{nil, 3},
		{map[string]string{"cloudstorage.write_chunk.size": "5MiB"}, 4},
		{map[string]string{"cloudstorage.write_chunk.size": "32MiB"}, 1},
	} {
		be := s3mem.New()
		if err := be.CreateBucket("b1"); err != nil {
			t.Fatal(err)
		}
		fake := gofakes3.New(be).Server()
		var mu sync.Mutex
		parts := 0
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			if r.Method == http.MethodPut && r.URL.Query().Has("partNumber") {
				parts++
			}
			mu.Unlock()
			fake.ServeHTTP(w, r)
		}))
		body := randomBytes(20 << 20)
		s := withSettings(t, s3URI(srv.URL), c.values)
		put(t, s, "x", body)
		if parts != c.parts {
			t.Errorf("%v: %d parts, want %d", c.values, parts, c.parts)
		}
		if !bytes.Equal(get(t, s, "x", 0, -1), body) {
			t.Errorf("%v: another body came back", c.values)
		}
		srv.Close()
	}
}

func TestTimeoutSetting(t *testing.T) {
	stuck := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-stuck }))
	t.Cleanup(srv.Close)
	t.Cleanup(func() { close(stuck) })
	s := withSettings(t, s3URI(srv.URL), map[string]string{"cloudstorage.timeout": "300ms"})
	for _, op := range operations {
		began := time.Now()
		if err := op.run(t.Context(), s); err == nil || time.Since(began) > 3*time.Second {
			t.Errorf("%s after %s: %v", op.name, time.Since(began), err)
		}
	}
}

func TestCustomCASetting(t *testing.T) {
	be := s3mem.New()
	if err := be.CreateBucket("b1"); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(gofakes3.New(be).Server())
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}))
	put(t, withSettings(t, s3URI(srv.URL), map[string]string{"cloudstorage.http.custom_ca": ca}), "x", []byte("y"))
	err := withSettings(t, s3URI(srv.URL), nil).Put(t.Context(), "z", strings.NewReader("y"))
	if err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("without the certificate: %v", err)
	}
	reg := settings.NewRegistry()
	extstore.RegisterSettings(reg)
	s, _ := reg.Lookup("cloudstorage.http.custom_ca")
	if _, err := s.Parse("nonsense"); err == nil {
		t.Error("nonsense is taken for a certificate")
	}
}
