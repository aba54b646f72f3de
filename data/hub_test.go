package data

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
)

// hubServer answers like the hub for one data set with the given files.
func hubServer(t *testing.T, files map[string]string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, isFile := strings.CutPrefix(r.URL.Path, "/datasets/owner/name/resolve/")
		switch {
		case strings.HasPrefix(r.URL.Path, "/api/datasets/owner/name"):
			var list []string
			for name := range files {
				list = append(list, fmt.Sprintf(`{"rfilename": %q}`, name))
			}
			fmt.Fprintf(w, `{"id": "owner/name", "sha": "0123456789abcdef", "siblings": [%s]}`, strings.Join(list, ","))
		case isFile:
			_, name, _ = strings.Cut(name, "/")
			w.Header().Set("ETag", `"`+sum([]byte(files[name]))[:32]+`"`)
			w.Header().Set("X-Repo-Commit", "0123456789abcdef")
			w.Header().Set("Content-Length", fmt.Sprint(len(files[name])))
			_, _ = w.Write([]byte(files[name]))
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func TestHubDataset(t *testing.T) {
	endpoint := hubServer(t, map[string]string{"README.md": "card", "train.jsonl": `{"text": "from the hub"}`, "test.jsonl": `{"text": "held"}`, "x.bin": "?"})
	resolve := func(name string) (string, error) {
		o := Options{CacheDir: t.TempDir(), Source: Source{HubEndpoint: endpoint}}
		path, _, err := o.resolve(context.Background(), name)
		return path, err
	}
	path, err := resolve("hf://datasets/owner/name/train.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	if content, err := os.ReadFile(path); err != nil || string(content) != `{"text": "from the hub"}` {
		t.Errorf("%s holds %q, %v", path, content, err)
	}
	if path, err = resolve("hf://datasets/owner/name/*.jsonl"); err != nil || strings.Count(path, ",") != 1 {
		t.Errorf("pattern gave %s, %v", path, err)
	}
	for name, want := range map[string]string{"": "holds several files", "/dev.jsonl": "no file to read matches", "/[": "syntax error"} {
		if _, err := resolve("hf://datasets/owner/name" + name); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error %v, want %q", name, err, want)
		}
	}
	if _, err := resolve("hf://datasets/owner/other"); err == nil {
		t.Error("an unknown data set gave no error")
	}
}
