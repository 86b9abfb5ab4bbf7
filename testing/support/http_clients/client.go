// client URL FILE, after go build client.go: posts the file with net/http: with its length, in chunks, and after Expect: 100-continue.
package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

func main() {
	image, err := os.ReadFile(os.Args[2])
	if err != nil {
		panic(err)
	}
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{ExpectContinueTimeout: 5 * time.Second}}
	bodies := []io.Reader{bytes.NewReader(image), io.MultiReader(bytes.NewReader(image)), bytes.NewReader(image)}
	for number, body := range bodies {
		request, _ := http.NewRequest("POST", os.Args[1]+"/score?top_k=1", body)
		request.Header.Set("Content-Type", "image/png")
		if number == 2 {
			request.Header.Set("Expect", "100-continue")
		}
		response, err := client.Do(request)
		if err != nil {
			panic(err)
		}
		answer, _ := io.ReadAll(response.Body)
		response.Body.Close()
		fmt.Println(response.StatusCode, string(answer))
	}
}
