package tencenttest

import (
	"net/http/httptest"
	"testing"
	"time"
)

func TestNotice(t *testing.T) {
	s, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	get := func(method, path string) (status int, body string) {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest(method, path, nil))
		return w.Code, w.Body.String()
	}
	if status, body := get("GET", idPath); status != 200 || body != InstanceID {
		t.Errorf("instance id: %d %s", status, body)
	}
	if status, _ := get("GET", timePath); status != 404 {
		t.Errorf("no notice: %d", status)
	}
	s.Announce(time.Date(2018, 8, 18, 4, 5, 33, 999, time.UTC))
	if _, body := get("GET", timePath); body != "2018-08-18 12:05:33" {
		t.Errorf("notice: %s", body)
	}
	if status, _ := get("PUT", timePath); status == 200 {
		t.Error("PUT is answered")
	}
	s.Withdraw()
	if status, _ := get("GET", timePath); status != 404 {
		t.Errorf("withdrawn: %d", status)
	}
	if _, err := Listen("256.0.0.1:0"); err == nil {
		t.Error("listens on an address that is none")
	}
}
