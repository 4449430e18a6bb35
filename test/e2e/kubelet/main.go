// The kubelet's two APIs on unix sockets and its /pods over HTTPS, answered by the kubelet's own generated server code and
// pods that k8s.io/api marshals itself. Usage: kubelet-peer FOLDER; reads FOLDER/scenario.json anew for each
// answer, puts pods-api.sock, kubelet.sock and ca.crt there, and prints the HTTPS port once everything listens.
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	podresources "k8s.io/kubelet/pkg/apis/podresources/v1"
	pods "k8s.io/kubelet/pkg/apis/pods/v1alpha1"
)

// scenario is what the node runs. Filler pods carry an environment of FillerBytes each, to weigh what real ones weigh.
type scenario struct {
	Pods        []core.Pod                   `json:"pods"`
	Devices     []*podresources.PodResources `json:"devices"`
	Filler      int                          `json:"filler"`
	FillerBytes int                          `json:"fillerBytes"`
	Token       string                       `json:"token"`
}

type kubelet struct {
	pods.UnimplementedPodsServer
	podresources.UnimplementedPodResourcesListerServer
	folder string
}

func (k *kubelet) read() (*scenario, error) {
	text, err := os.ReadFile(filepath.Join(k.folder, "scenario.json"))
	if err != nil {
		return nil, err
	}
	read := &scenario{}
	if err := json.Unmarshal(text, read); err != nil {
		return nil, err
	}
	for i := 0; i < read.Filler; i++ {
		read.Pods = append(read.Pods, filler(i, read.FillerBytes))
	}
	return read, nil
}

func filler(i, bytes int) core.Pod {
	return core.Pod{
		ObjectMeta: meta.ObjectMeta{
			Name:        fmt.Sprintf("web-%d", i),
			Namespace:   "filler",
			UID:         "00000000-0000-0000-0000-000000000000",
			Labels:      map[string]string{"app": "web"},
			Annotations: map[string]string{"prometheus.io/scrape": "true", "prometheus.io/port": "8080"},
		},
		Spec: core.PodSpec{Containers: []core.Container{{
			Name:  "web",
			Ports: []core.ContainerPort{{ContainerPort: 8080, Protocol: core.ProtocolTCP}},
			Env:   []core.EnvVar{{Name: "PADDING", Value: strings.Repeat("x", bytes)}},
		}}},
		Status: core.PodStatus{Phase: core.PodRunning, PodIP: "192.0.2.1"},
	}
}

func (k *kubelet) ListPods(context.Context, *pods.ListPodsRequest) (*pods.ListPodsResponse, error) {
	read, err := k.read()
	if err != nil {
		return nil, err
	}
	answer := &pods.ListPodsResponse{}
	for i := range read.Pods {
		bytes, err := read.Pods[i].Marshal()
		if err != nil {
			return nil, err
		}
		answer.Pods = append(answer.Pods, bytes)
	}
	return answer, nil
}

func (k *kubelet) List(context.Context, *podresources.ListPodResourcesRequest) (*podresources.ListPodResourcesResponse, error) {
	read, err := k.read()
	if err != nil {
		return nil, err
	}
	return &podresources.ListPodResourcesResponse{PodResources: read.Devices}, nil
}

// ServeHTTP answers /pods as the kubelet does: authentication first, then a PodList as JSON.
func (k *kubelet) ServeHTTP(response http.ResponseWriter, request *http.Request) {
	read, err := k.read()
	switch {
	case err != nil:
		http.Error(response, err.Error(), http.StatusInternalServerError)
	case request.Header.Get("Authorization") != "Bearer "+read.Token:
		http.Error(response, "Unauthorized", http.StatusUnauthorized)
	case request.URL.Path != "/pods":
		http.Error(response, "Forbidden", http.StatusForbidden)
	default:
		response.Header().Set("Content-Type", "application/json")
		list := core.PodList{TypeMeta: meta.TypeMeta{Kind: "PodList", APIVersion: "v1"}, Items: read.Pods}
		_ = json.NewEncoder(response).Encode(list)
	}
}

// certificate is self-signed for 127.0.0.1 and lies in FOLDER/ca.crt, as a kubelet's without a signer does on its node.
func (k *kubelet) certificate() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	fatal(err)
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "node-ca"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		IsCA:                  true,
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	bytes, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	fatal(err)
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: bytes})
	fatal(os.WriteFile(filepath.Join(k.folder, "ca.crt"), text, 0o644))
	return tls.Certificate{Certificate: [][]byte{bytes}, PrivateKey: key}
}

func fatal(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func main() {
	if len(os.Args) < 2 {
		log.Fatal("usage: kubelet-peer FOLDER")
	}
	k := &kubelet{folder: os.Args[1]}
	serve := func(name string, register func(*grpc.Server)) {
		listener, err := net.Listen("unix", filepath.Join(k.folder, name))
		fatal(err)
		server := grpc.NewServer(grpc.MaxSendMsgSize(64 << 20))
		register(server)
		go func() { fatal(server.Serve(listener)) }()
	}
	serve("pods-api.sock", func(server *grpc.Server) { pods.RegisterPodsServer(server, k) })
	serve("kubelet.sock", func(server *grpc.Server) { podresources.RegisterPodResourcesListerServer(server, k) })
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{k.certificate()}})
	fatal(err)
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	fatal(http.Serve(listener, k))
}
