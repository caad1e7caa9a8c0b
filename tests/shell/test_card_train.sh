#!/bin/bash
# tests/tools/card_train.sh without a card: small, on the fake device; stopped and gone on with.
. tests/shell/lib.sh

if [ -z "${LD_TEST_FAKE:-}" ]; then
    skip 'card_train.sh' 'LD_TEST_FAKE does not name the fake device'
    finish
fi
export LD_CUDA_PLUGIN=$LD_TEST_FAKE LDLUA LD_TUNE=0
out=$TEST_TMP/out cifar=$TEST_TMP/cifar-10-batches-bin
train() { tests/tools/card_train.sh --tiny --device fake:0 --out "$out" "$@"; }

# Records of CIFAR-10: a class, then 3072 bytes; two classes that colour tells apart.
mkdir -p "$cifar"
"$LDLUA" -e "
  local names = assert(io.open('$cifar/batches.meta.txt', 'w'))
  names:write('airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n') names:close()
  for _, file in ipairs{'data_batch_1', 'test_batch'} do
    local f = assert(io.open('$cifar/' .. file .. '.bin', 'wb'))
    for i = 1, 64 do
      local class = i % 10
      f:write(string.char(class), string.char(20 * class):rep(2048), string.char(i):rep(1024))
    end
    f:close()
  end"
refuse 'data that is not there' train --cifar "$TEST_TMP/absent"
says "there is no $TEST_TMP/absent"
refuse 'an unknown option' train --fast
says 'unknown option --fast; known: --minutes'
refuse 'no time for it all' train --minutes 0.04 --cifar "$cifar"
same 'says so by its status' "$ld_status" 75
says 'not done: call it again with the same --out'
check 'the rest' train --cifar "$cifar"
says 'held out: loss'
says 'Frechet'
says 'compare: done after'
says 'autoencoder: done after'
for file in judge/best.h5 evaluator/best.h5 compare/compare.png vae/vae.h5; do
    same "$file" "$([ -s "$out/$file" ] && echo yes)" yes
done
check 'once more' train --cifar "$cifar"
says 'compare: done before'
rm "$out/judge/best.h5" "$out"/{judge,compare}.done
printf damaged >"$out/judge/best.h5"
refuse 'a stage that fails' train --cifar "$cifar" --only compare
says 'compare: FAILED with status'
out=$TEST_TMP/faces
check 'without data: faces' train --only store,judge
says 'classifier: accuracy'
finish
