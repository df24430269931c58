"""Makes ``twistd loopsy`` known. Nothing else may be imported here: twistd reads every plugin at each start."""

from twisted.application.service import ServiceMaker

loopsy = ServiceMaker("loopsy", "loopsy.tap", "Commands, files, context and messages between your machines.", "loopsy")
