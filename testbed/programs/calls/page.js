// SPDX-License-Identifier: BSD-3-Clause
// One end of a call, in the page of a browser. `tell(kind, value)` is what the driver hears;
// times are milliseconds of the day. Offers, answers and candidates are carried by the driver.

const end = { pc: null, samples: [], states: [], pairs: [], heard: 0, sent: 0, timer: null, remote: [] };

function say(kind, word) {
  end.states.push({ at: Date.now(), kind, word: String(word) });
}

// A canvas that changes like a screen that is worked on: a line of text at a time.
function screen() {
  const canvas = document.createElement("canvas");
  canvas.width = 480;
  canvas.height = 270;
  const paint = canvas.getContext("2d");
  let row = 0;
  end.painter = setInterval(() => {
    paint.fillStyle = row % 12 ? "#fff" : "#ddd";
    paint.fillRect(0, (row % 12) * 22, 480, 22);
    paint.fillStyle = "#111";
    paint.fillText("line " + row + " of a document that somebody shows", 8, (row % 12) * 22 + 15);
    row += 1;
  }, 200);
  return canvas.captureStream(5);
}

async function sources(media) {
  if (media === "data") return null;
  if (media === "screen") return screen();
  const video = media === "audio+video" ? { width: 320, height: 180, frameRate: 10 } : false;
  const audio = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  return navigator.mediaDevices.getUserMedia({ audio, video });
}

function chat(channel) {
  channel.onopen = () => {
    say("data", "open");
    let number = 0;
    end.chat = setInterval(() => {
      if (channel.readyState !== "open") return;
      channel.send("message " + number++ + " " + "x".repeat(20 + (number * 37) % 400));
      end.sent += 1;
    }, 150);
  };
  channel.onmessage = () => { end.heard += 1; };
}

// options: media, servers (of RTCPeerConnection), relay (whether only relays may be used), calls.
async function open(options) {
  const pc = new RTCPeerConnection({
    iceServers: options.servers,
    iceTransportPolicy: options.relay ? "relay" : "all",
    bundlePolicy: "max-bundle",
  });
  end.pc = pc;
  pc.onicecandidate = (event) => { if (event.candidate) tell("candidate", event.candidate.toJSON()); };
  pc.onicecandidateerror = (event) => say("error", `${event.url} ${event.errorCode} ${event.errorText}`);
  pc.onicegatheringstatechange = () => say("gathering", pc.iceGatheringState);
  pc.oniceconnectionstatechange = () => say("ice", pc.iceConnectionState);
  pc.onsignalingstatechange = () => say("signalling", pc.signalingState);
  pc.onconnectionstatechange = () => {
    say("connection", pc.connectionState);
    tell("connection", pc.connectionState);
  };
  pc.ontrack = (event) => {
    const player = document.createElement(event.track.kind === "audio" ? "audio" : "video");
    player.autoplay = true;
    player.srcObject = new MediaStream([event.track]);
    document.body.append(player);
  };
  pc.ondatachannel = (event) => chat(event.channel);
  const stream = await sources(options.media);
  if (stream) for (const track of stream.getTracks()) pc.addTrack(track, stream);
  if (options.calls && (options.media === "screen" || options.media === "data")) {
    chat(pc.createDataChannel("chat"));
  }
  end.timer = setInterval(sample, 250);
}

// Notes what has come so far, and a chosen pair of candidates when it is another one than before.
async function sample() {
  if (!end.pc || end.pc.connectionState === "closed") return;
  const one = { at: Date.now(), audio: 0, video: 0, data: end.heard };
  const rows = await end.pc.getStats();
  for (const row of rows.values()) {
    if (row.type === "inbound-rtp") one[row.kind] += row.packetsReceived;
    if (row.type === "transport" && row.selectedCandidatePairId !== end.pair) {
      end.pair = row.selectedCandidatePairId;
      const pair = rows.get(end.pair);
      if (pair) end.pairs.push({
        at: Date.now(), local: rows.get(pair.localCandidateId), remote: rows.get(pair.remoteCandidateId),
      });
    }
  }
  end.samples.push(one);
}

async function offer(restart) {
  if (restart) say("restart", "ice");
  await end.pc.setLocalDescription(await end.pc.createOffer({ iceRestart: restart }));
  return end.pc.localDescription.sdp;
}

async function answer(sdp) {
  await take("offer", sdp);
  await end.pc.setLocalDescription(await end.pc.createAnswer());
  return end.pc.localDescription.sdp;
}

async function take(type, sdp) {
  await end.pc.setRemoteDescription({ type, sdp });
  const waiting = end.remote;
  end.remote = [];
  for (const one of waiting) await end.pc.addIceCandidate(one);
}

async function candidate(one) {
  if (!end.pc || !end.pc.remoteDescription) end.remote.push(one);
  else await end.pc.addIceCandidate(one);
}

async function report() {
  await sample();
  const rows = end.pc ? [...(await end.pc.getStats()).values()] : [];
  return {
    rows, states: end.states, samples: end.samples, pairs: end.pairs, sent: end.sent, heard: end.heard,
    sdp: end.pc && end.pc.localDescription ? end.pc.localDescription.sdp : "",
  };
}

function close() {
  for (const one of [end.timer, end.chat, end.painter]) clearInterval(one);
  if (end.pc) end.pc.close();
}
